//! A set of resources, by key: what is compiled. Whoever stores resources fills one from its store.

use std::collections::BTreeMap;

use crate::gateway::{GatewayClassSpec, GatewaySpec};
use crate::grant::ReferenceGrantSpec;
use crate::kind::{Key, Kind};
use crate::mesh::{NodeSpec, WorkloadSpec};
use crate::metadata::Metadata;
use crate::resource::{Resource, Spec};
use crate::service::{NAMESPACE_NAME_LABEL, ServiceSpec};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    by_key: BTreeMap<Key, Resource>,
}

impl FromIterator<Resource> for Resources {
    /// Of two with one key the later stays.
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut all = Resources::default();
        resources.into_iter().for_each(|resource| drop(all.insert(resource)));
        all
    }
}

impl Resources {
    /// Returns what had the same key before.
    pub fn insert(&mut self, resource: Resource) -> Option<Resource> {
        self.by_key.insert(resource.key(), resource)
    }

    pub fn remove(&mut self, key: &Key) -> Option<Resource> {
        self.by_key.remove(key)
    }

    pub fn find(&self, key: &Key) -> Option<&Resource> {
        self.by_key.get(key)
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.by_key.values()
    }

    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        let first = Key { kind, namespace: String::new(), name: String::new() };
        self.by_key.range(first..).take_while(move |(key, _)| key.kind == kind).map(|(_, resource)| resource)
    }

    pub fn gateways(&self) -> impl Iterator<Item = (&Metadata, &GatewaySpec)> {
        self.of_kind(Kind::Gateway).filter_map(|resource| match &resource.spec {
            Spec::Gateway(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    pub fn services(&self) -> impl Iterator<Item = (&Metadata, &ServiceSpec)> {
        self.of_kind(Kind::Service).filter_map(|resource| match &resource.spec {
            Spec::Service(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    pub fn workloads(&self) -> impl Iterator<Item = (&Metadata, &WorkloadSpec)> {
        self.of_kind(Kind::Workload).filter_map(|resource| match &resource.spec {
            Spec::Workload(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    /// The Workloads of one namespace.
    pub fn workloads_of(&self, namespace: &str) -> impl Iterator<Item = (&Metadata, &WorkloadSpec)> {
        let first = Key { kind: Kind::Workload, namespace: namespace.to_owned(), name: String::new() };
        let from_first = self.by_key.range(first.clone()..);
        let own = from_first
            .take_while(move |(key, _)| key.kind == Kind::Workload && key.namespace == first.namespace);
        own.filter_map(|(_, resource)| match &resource.spec {
            Spec::Workload(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    pub fn nodes(&self) -> impl Iterator<Item = (&Metadata, &NodeSpec)> {
        self.of_kind(Kind::Node).filter_map(|resource| match &resource.spec {
            Spec::Node(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    pub fn grants(&self) -> impl Iterator<Item = (&Metadata, &ReferenceGrantSpec)> {
        self.of_kind(Kind::ReferenceGrant).filter_map(|resource| match &resource.spec {
            Spec::ReferenceGrant(spec) => Some((&resource.metadata, spec)),
            _ => None,
        })
    }

    pub fn gateway_class(&self, name: &str) -> Option<&GatewayClassSpec> {
        match &self.find(&Key::new(Kind::GatewayClass, "", name))?.spec {
            Spec::GatewayClass(spec) => Some(spec),
            _ => None,
        }
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&ServiceSpec> {
        match &self.find(&Key::new(Kind::Service, namespace, name))?.spec {
            Spec::Service(spec) => Some(spec),
            _ => None,
        }
    }

    /// A namespace's labels. One without a Namespace resource has its name alone: namespaces need not be made first.
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let resource = self.find(&Key::new(Kind::Namespace, "", name));
        let mut labels = resource.map(|resource| resource.metadata.labels.clone()).unwrap_or_default();
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
        labels
    }
}
