//! Which container a cgroup belongs to, as far as its path tells.
//!
//! Must not: ask a runtime or look at the file system. Paths are hostile: what may delegate a
//! cgroup may name its children as it likes, so that a name proves nothing.

use super::Container;

/// Digits of a container id, in every runtime (containerd, CRI-O, Docker, Podman).
const ID_LEN: usize = 64;

impl Container {
    /// The container of a cgroup path, `None` where it names none. Understands Kubernetes with the
    /// cgroupfs and the systemd driver on containerd, CRI-O and Docker; Docker and Podman without
    /// Kubernetes; and anything else that puts the plain id into the path.
    ///
    /// The right-most id counts, so that a container inside a container is itself. Cgroups that the
    /// container makes below its own are part of it.
    pub fn from_path(path: &str) -> Option<Self> {
        // containerd without the systemd driver's slices writes `slice:cri-containerd:id`.
        let segments: Vec<&str> = path.split(['/', ':']).collect();
        let (place, id) = segments
            .iter()
            .enumerate()
            .rev()
            .find_map(|(place, segment)| Some((place, container_id(segment)?)))?;
        let above = &segments[..place];
        let pod_uid = above
            .iter()
            .position(|segment| segment.contains("kubepods"))
            .and_then(|kubepods| above[kubepods..].iter().rev().find_map(|name| pod_uid(name)));
        Some(Self { id: id.to_owned(), pod_uid })
    }
}

/// The id in one segment: `<id>`, `<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>`, ...
fn container_id(segment: &str) -> Option<&str> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id =
        id.len() == ID_LEN && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // conmon is the process that watches a container from outside.
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

/// The uid in `pod<uid>` or `kubepods-burstable-pod<uid>.slice`, with dashes. Static pods have a
/// hash without dashes.
fn pod_uid(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".slice").unwrap_or(segment);
    let uid = match name.rsplit_once("-pod") {
        Some((_, uid)) if name.contains("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let is_uid = (uid.len() == 36 || uid.len() == 32)
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4c8f1d0be7e0a3a0a6a0c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70";
    const OTHER: &str = "00000000e7e0a3a0a6a0c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70";
    const UID: &str = "7e0a3a0a-6a0c-41d2-a3f4-05162738495a";
    const SLICE_UID: &str = "7e0a3a0a_6a0c_41d2_a3f4_05162738495a";
    const STATIC_UID: &str = "0123456789abcdef0123456789abcdef";

    fn check(path: &str, expect: Option<(&str, Option<&str>)>) {
        let expect =
            expect.map(|(id, pod)| Container { id: id.into(), pod_uid: pod.map(Into::into) });
        assert_eq!(Container::from_path(path), expect, "{path}");
    }

    #[test]
    fn containers_of_kubernetes() {
        let pod = Some((ID, Some(UID)));
        let slices = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice"
        );
        check(&format!("/kubepods/burstable/pod{UID}/{ID}"), pod);
        check(&format!("/kubepods/pod{UID}/{ID}"), pod);
        check(&format!("{slices}/cri-containerd-{ID}.scope"), pod);
        check(&format!("{slices}/crio-{ID}.scope"), pod);
        check(&format!("{slices}/crio-{ID}"), pod);
        check(&format!("{slices}/docker-{ID}.scope"), pod);
        check(&format!("{slices}/docker-{ID}.scope/init.scope"), pod);
        check(
            &format!("/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"),
            pod,
        );
        check(
            &format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{SLICE_UID}.slice:cri-containerd:{ID}"
            ),
            pod,
        );
        check(&format!("/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}"), pod);
        let kind = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice";
        check(
            &format!(
                "{kind}/kubelet-kubepods-burstable-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
            ),
            pod,
        );
        check(&format!("{kind}/{ID}"), Some((ID, None)));
        check(&format!("/kubepods/burstable/pod{STATIC_UID}/{ID}"), Some((ID, Some(STATIC_UID))));
    }

    #[test]
    fn containers_without_kubernetes() {
        let plain = Some((ID, None));
        check(&format!("/docker/{ID}"), plain);
        check(&format!("/system.slice/docker-{ID}.scope"), plain);
        check(&format!("/machine.slice/libpod-{ID}.scope/container"), plain);
        check(
            &format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            plain,
        );
        check(&format!("/ecs/{STATIC_UID}/{ID}"), plain);
        check(&format!("/docker/{OTHER}/docker/{ID}"), plain);
    }

    #[test]
    fn what_is_no_container() {
        check("", None);
        check("/", None);
        check("/system.slice/ssh.service", None);
        check(&format!("/kubepods/burstable/pod{UID}"), None);
        check(&format!("/machine.slice/libpod-conmon-{ID}.scope"), None);
        check(&format!("/kubepods.slice/crio-conmon-{ID}.scope"), None);
        check(&format!("/docker/{}", &ID[1..]), None);
        check(&format!("/docker/{}", ID.to_uppercase()), None);
        check(&format!("/docker/0{ID}"), None);
    }

    #[test]
    fn a_made_up_pod_is_no_pod() {
        check(&format!("/kubepods/pod../{ID}"), Some((ID, None)));
        check(&format!("/kubepods/pod\u{1F980}/{ID}"), Some((ID, None)));
        check(&format!("/app/pod{UID}/{ID}"), Some((ID, None)));
    }

    proptest! {
        #[test]
        fn any_path_is_survived(path in "(/|:|-|pod|kubepods|\\.scope|[0-9a-f]{64}|\\PC){0,20}") {
            if let Some(container) = Container::from_path(&path) {
                prop_assert_eq!(container.id.len(), ID_LEN);
                prop_assert!(path.contains(&container.id));
            }
        }
    }
}
