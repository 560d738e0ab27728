//! `ringway ca` and `ringway audit`.

use identity::{CertificateDer, Pin, encode};
use xds::proto::identity as api;

use crate::columns::align;
use crate::flags::Ca;
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

pub async fn run(reach: &Reach, command: Ca) -> Result<(), Problem> {
    let mut administration = reach.administration().await?;
    match command {
        Ca::Show => {
            let shown = administration.show_authority(api::ShowAuthorityRequest {}).await?.into_inner();
            print::out(&show(&shown))
        }
        Ca::Bundle => {
            let shown = administration.show_authority(api::ShowAuthorityRequest {}).await?.into_inner();
            let roots = shown.bundle.unwrap_or_default().roots;
            let roots: Vec<CertificateDer<'_>> = roots.into_iter().map(CertificateDer::from).collect();
            print::out(&encode::certificates_to_pem(&roots))
        }
        Ca::Rotate { wait } => {
            let request = api::RotateAuthorityRequest { wait_seconds: wait.as_secs().max(1) };
            let mut steps = administration.rotate_authority(request).await?.into_inner();
            let mut ended = String::new();
            while let Some(step) = steps.message().await? {
                print::out(&step.text)?;
                ended = step.text;
            }
            if ended.ends_with("done") {
                Ok(())
            } else {
                Err(Problem::Refused("the rotation is not complete".to_owned()))
            }
        }
    }
}

pub async fn audit(reach: &Reach, lines: u32) -> Result<(), Problem> {
    let mut administration = reach.administration().await?;
    let answer = administration.audit(api::AuditRequest { limit: lines }).await?.into_inner();
    print::out(&answer.lines.join("\n"))
}

fn show(shown: &api::Authority) -> String {
    let mut rows = vec![["TRUST DOMAIN", "ROOT"].map(str::to_owned).to_vec()];
    for bundle in shown.bundle.iter().chain(&shown.federated) {
        for root in &bundle.roots {
            rows.push(vec![bundle.trust_domain.clone(), Pin::of(root).to_string()]);
        }
    }
    format!("authority: {}, generation {}\n\n{}", shown.kind, shown.generation, align(&rows))
}
