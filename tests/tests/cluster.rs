//! Questions to a running lab cluster with Weftnet. `make test` starts one and runs these with
//! `--ignored`; `WEFT_TEST_KUBECONFIG` names its kubeconfig, and kubectl is in `PATH`.

mod admission;
mod columns;
mod rules;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

fn kubeconfig() -> String {
    std::env::var("WEFT_TEST_KUBECONFIG").expect(
        "WEFT_TEST_KUBECONFIG names the kubeconfig of a lab: weft-lab up, then weft-lab kubeconfig",
    )
}

async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("the kubeconfig can be read");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

async fn admin() -> Client {
    Client::try_from(config().await).unwrap()
}

/// The message of an API error; a success is one that should not have been.
fn refusal<T: std::fmt::Debug>(outcome: kube::Result<T>) -> String {
    match outcome {
        Err(kube::Error::Api(status)) => status.message.clone(),
        Err(other) => panic!("not an answer of the API server: {other}"),
        Ok(object) => panic!("accepted, but it should have been refused: {object:?}"),
    }
}
