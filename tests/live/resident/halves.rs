//! A program touches a GiB in one function and gives half of it back: in each language, and in the ways
//! that a kernel has for it.

use std::process::Command;

use anyhow::{Context, ensure};
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::workload::Workload;

use super::{TOUCHED, Watched, expect, expect_both, expect_resident};

/// Touches with one command, gives back with another, and looks.
fn half(touch: &str, give: &str, name: &str, label: &str) -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does(&format!("{touch} {TOUCHED}"))?;
    let before = watched.incident()?;
    expect_both(&before.profile("memory")?, name, [TOUCHED, TOUCHED])?;
    expect_resident(&before)?;
    watched.does(give)?;
    let incident = watched.incident()?;
    let profile = incident.profile("memory")?;
    expect_both(&profile, name, [TOUCHED, TOUCHED / 2])?;
    expect_resident(&incident)?;
    expect_label(&profile, name, label)?;
    watched.recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn in_c() -> anyhow::Result<()> {
    half("touch", "half", "touch_in_c", "anonymous")
}

#[test]
fn given_back_by_advice() -> anyhow::Result<()> {
    half("touch", "advise", "touch_in_c", "anonymous")
}

#[test]
fn read_into_a_fresh_buffer() -> anyhow::Result<()> {
    half("read", "half", "read_in_c", "anonymous")
}

#[test]
fn shared_memory() -> anyhow::Result<()> {
    half("shared", "half", "touch_in_c", "file_or_shared")
}

/// Where other programs fault on the same CPU, a run of the probe stands for up to some twenty faults, of
/// 2 MiB here, and the last of them are not seen yet.
#[test]
fn in_huge_pages() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.is_seen()?;
    if watched.program.ask(&format!("huge {TOUCHED}"), "")? != "done" {
        return machine::not_run("this kernel gave no huge pages");
    }
    watched.does("half")?;
    let incident = watched.incident()?;
    let profile = incident.profile("memory")?;
    expect_both(&profile, "touch_in_c", [TOUCHED, TOUCHED / 2])?;
    expect_label(&profile, "touch_in_c", "anonymous_huge")
}

/// The kernel writes the answer of a system call: its own frames are in the stack.
#[test]
fn a_system_call_touches_with_the_kernels_frames() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does("read 256")?;
    let profile = watched.profile()?;
    // The first function behind every architecture's entry is a system call's.
    let below = profile.chain("alloc_space", &["read_in_c", "sys_read"])?;
    expect("read_in_c above the kernel", below, 256, 2)
        .map_err(|error| error.context(profile.top("alloc_space")))
}

#[test]
fn moved_to_another_address() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("move")?;
    let moved = watched.incident()?;
    expect_both(&moved.profile("memory")?, "touch_in_c", [TOUCHED, TOUCHED])?;
    expect_resident(&moved)?;
    watched.does("half")?;
    let incident = watched.incident()?;
    expect_both(&incident.profile("memory")?, "touch_in_c", [TOUCHED, TOUCHED / 2])?;
    expect_resident(&incident)
}

#[test]
fn in_go() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::start(&Workload::go_resident()?)?;
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("half")?;
    let incident = watched.incident()?;
    expect_both(&incident.profile("memory")?, "main.touchInGo", [TOUCHED, TOUCHED / 2])?;
    expect_resident(&incident)
}

/// Python's own functions have no addresses: the interpreter's function that runs them has.
#[test]
fn in_python() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::start(&Workload::python("resident.py")?)?;
    // The interpreter's tables are made when a walk comes through it.
    watched.does("touch 4")?;
    std::thread::sleep(super::KNOWN);
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("half")?;
    let incident = watched.incident()?;
    expect_both(&incident.profile("memory")?, "_PyEval_EvalFrameDefault", [TOUCHED, TOUCHED / 2])?;
    expect_resident(&incident)
}

/// The collector decides what it gives back: some of the half stays with it, and the kernel's number for
/// the process says how much.
#[test]
fn in_java() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(jcmd) = machine::installed("jcmd") else { return Ok(()) };
    let mut watched = Watched::start(&Workload::java_resident()?)?;
    watched.does("warm")?;
    let pid = watched.program.pid();
    let asked = Command::new(jcmd).args([&pid.to_string(), "Compiler.perfmap"]).output();
    let map = std::path::PathBuf::from(format!("/tmp/perf-{pid}.map"));
    ensure!(asked.context("running jcmd")?.status.success(), "the JVM wrote no map");
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("half")?;
    let incident = watched.incident();
    // It belongs to nobody any more.
    let _ = std::fs::remove_file(&map);
    let incident = incident?;
    let profile = incident.profile("memory")?;
    expect("allocated", profile.cumulative("alloc_space", "touchInJava")?, TOUCHED, 3)?;
    expect("in use", profile.cumulative("inuse_space", "touchInJava")?, TOUCHED / 2, 12)?;
    expect_resident(&incident)
}

/// What is under this name has this label.
fn expect_label(profile: &ProfileView, name: &str, label: &str) -> anyhow::Result<()> {
    let all = profile.cumulative("inuse_space", name)?;
    let with = profile.labelled("inuse_space", name, ("memory", label))?;
    ensure!(with * 100 >= all * 98, "{with} of {all} bytes are {label}");
    Ok(())
}
