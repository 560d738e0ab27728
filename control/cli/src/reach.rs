//! How the control plane is reached and as whom, from the flags.

use std::path::Path;

use identity::tls::{self, Known};
use identity::{Key, encode};
use xds::operator::{Administration, Bearer, Client};
use xds::target::Target;

use crate::flags::ReachFlags;
use crate::problem::Problem;

#[derive(Debug)]
pub struct Reach(ReachFlags);

impl Reach {
    pub fn new(flags: ReachFlags) -> Reach {
        Reach(flags)
    }

    pub async fn operator(&self) -> Result<Client, Problem> {
        Ok(xds::operator::connect_to(&self.target()?, self.bearer()?).await?)
    }

    pub async fn administration(&self) -> Result<Administration, Problem> {
        Ok(xds::operator::administer(&self.target()?, self.bearer()?).await?)
    }

    fn target(&self) -> Result<Target, Problem> {
        let wrong = |error: xds::endpoint::AddressError| Problem::Usage(error.to_string());
        let Some(ca) = &self.0.ca else { return Target::plain(&self.0.control).map_err(wrong) };
        let known = match ca.starts_with("sha256:") {
            true => Known::Pinned(
                ca.parse::<identity::Pin>().map_err(|error| Problem::Usage(format!("--ca: {error}")))?,
            ),
            false => Known::Authority(roots(Path::new(ca))?),
        };
        let own = self.0.certificate.as_deref().map(certificate).transpose()?;
        let config =
            tls::client_config(known, own).map_err(|error| Problem::Usage(format!("TLS: {error}")))?;
        Target::fixed_tls(&self.0.control, config).map_err(wrong)
    }

    fn bearer(&self) -> Result<Bearer, Problem> {
        let Some(path) = &self.0.token_file else { return Ok(Bearer::default()) };
        let token = read(path)?;
        Bearer::new(token.trim()).map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))
    }
}

fn roots(path: &Path) -> Result<Vec<identity::CertificateDer<'static>>, Problem> {
    encode::certificates_from_pem(&read(path)?)
        .map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))
}

fn certificate(path: &Path) -> Result<std::sync::Arc<identity::CertifiedKey>, Problem> {
    let wrong = |problem: String| Problem::Usage(format!("{}: {problem}", path.display()));
    let text = read(path)?;
    let chain = encode::certificates_from_pem(&text).map_err(|error| wrong(error.to_string()))?;
    let key = Key::from_pem(&text).map_err(|error| wrong(error.to_string()))?;
    tls::certified(chain, key.to_der()).map_err(|error| wrong(error.to_string()))
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))
}
