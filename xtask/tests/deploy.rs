//! The files of `deploy/` hold what the recorder needs on a node. No cluster and no Docker engine
//! is needed: the manifests are read as YAML, the Dockerfile as text.

#![allow(clippy::unwrap_used, reason = "all of this file is test code, its helpers too")]

use std::path::Path;

use serde_json::Value;

fn read(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(name)).unwrap()
}

fn one(name: &str, kind: &str) -> Value {
    let mut found = documents(name).into_iter().filter(|document| document["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("{name} has no {kind}"))
}

fn pod() -> Value {
    one("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let entries = list.as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn the_pod_sees_the_whole_node() {
    let (pod, container) = (pod(), container());
    assert_eq!(pod["hostPID"], true);
    assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(pod["tolerations"][0]["operator"], "Exists");
    assert_eq!(container["securityContext"]["privileged"], true);
    let node = &named(&container["env"], "NODE_NAME")["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(node, "spec.nodeName");
}

#[test]
fn every_mount_has_its_volume_and_only_incidents_are_written() {
    let (pod, container) = (pod(), container());
    for (name, path, read_only) in
        [("cgroup", "/sys/fs/cgroup", true), ("incidents", "/var/lib/holmes", false)]
    {
        let mount = named(&container["volumeMounts"], name);
        assert_eq!(mount["mountPath"], path);
        assert_eq!(mount["readOnly"] == true, read_only, "{name}");
        assert_eq!(named(&pod["volumes"], name)["hostPath"]["path"], path);
    }
    let folder = &named(&pod["volumes"], "incidents")["hostPath"]["type"];
    assert_eq!(folder, "DirectoryOrCreate");
}

#[test]
fn probes_and_prometheus_reach_the_port_that_the_recorder_listens_on() {
    let container = container();
    let port = named(&container["ports"], "metrics")["containerPort"].as_u64().unwrap();
    let listen = format!("--listen=0.0.0.0:{port}");
    assert!(container["args"].as_array().unwrap().contains(&Value::from(listen)));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "metrics");
    }
    let template = one("daemonset.yaml", "DaemonSet")["spec"]["template"].clone();
    assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"], port.to_string());
    assert_eq!(
        one("podmonitor.yaml", "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"],
        "metrics"
    );
    assert!(read("Dockerfile").contains(&format!("EXPOSE {port}")));
}

#[test]
fn selectors_select_what_is_labelled() {
    let set = one("daemonset.yaml", "DaemonSet");
    let wanted = &set["spec"]["selector"]["matchLabels"];
    assert_eq!(wanted, &set["spec"]["template"]["metadata"]["labels"]);
    let monitor = one("podmonitor.yaml", "PodMonitor");
    assert_eq!(&monitor["spec"]["selector"]["matchLabels"], wanted);
    let namespace = &one("daemonset.yaml", "Namespace")["metadata"]["name"];
    assert_eq!(&set["metadata"]["namespace"], namespace);
    assert_eq!(&monitor["metadata"]["namespace"], namespace);
}

#[test]
fn memory_is_bounded() {
    let resources = container()["resources"].clone();
    assert!(resources["limits"]["memory"].is_string());
    assert!(
        resources["requests"]["memory"].is_string() && resources["requests"]["cpu"].is_string()
    );
}

#[test]
fn the_image_is_the_binary_and_nothing_else() {
    let dockerfile = read("Dockerfile");
    let stages: Vec<&str> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(stages.len(), 2, "one to build, one to run");
    assert!(stages[1].contains("distroless"));
    let last = dockerfile.split("FROM ").last().unwrap();
    assert_eq!(last.lines().filter(|line| line.starts_with("COPY ")).count(), 1);
    assert!(last.contains("ENTRYPOINT [\"/usr/local/bin/holmes-ebpf\"]"));
}

#[test]
fn what_the_image_lacks_is_linked_in() {
    let manifest: toml::Table = read("../Cargo.toml").parse().unwrap();
    let features = &manifest["workspace"]["dependencies"]["xz2"]["features"];
    assert!(features.as_array().unwrap().contains(&"static".into()), "distroless has no liblzma");
}
