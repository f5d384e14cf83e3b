//! What is watched is what is seen: cgroups v2 and v1, descendants, processes, and nothing else.

use anyhow::{Context, ensure};
use holmes_tests::cgroup::{Hierarchy, TestCgroup};
use holmes_tests::command;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

use crate::spike::{self, cpu_rule};

#[test]
fn of_two_cgroups_only_the_spiking_one_is_in_the_incident() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::c("spin")?;
    let (calm, hot) = (TestCgroup::new()?, TestCgroup::new()?);
    let neighbour = Program::start(&workload, Some(&calm))?;
    let setup = Setup::only_rule(&cpu_rule()).cgroup(&calm);
    let spike = spike::catch(&workload, &hot, &hot, setup)?;
    let profile = spike.incident.profile("cpu")?;
    let cgroups = profile.label_values("cgroup");
    ensure!(cgroups == [hot.name()].into(), "cgroups in the incident: {cgroups:?}");
    let pids = profile.label_values("pid");
    ensure!(!pids.contains(&neighbour.pid().to_string()), "the neighbour is among {pids:?}");
    // The neighbour was watched and had samples: they are in its own profile.
    spike.recorder.post(&format!("/trigger?target={}", calm.name()))?;
    let other = spike.recorder.wait_incident(2)?.profile("cpu")?;
    ensure!(other.total("samples")? > 0, "nothing was seen of the neighbour");
    let cgroups = other.label_values("cgroup");
    ensure!(cgroups == [calm.name()].into(), "cgroups in its own incident: {cgroups:?}");
    Ok(())
}

/// Records for a while by `watch` while a program spins inside and one outside, and gives the pids
/// in the profile, and the pid inside.
fn recorded(watch: impl Fn(&TestCgroup, &Program) -> Vec<String>) -> anyhow::Result<()> {
    let workload = Workload::c("spin")?;
    let cgroup = TestCgroup::new()?;
    let mut inside = Program::start(&workload, Some(&cgroup))?;
    let mut outside = Program::start(&workload, None)?;
    inside.ask("spin", "spinning")?;
    outside.ask("spin", "spinning")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("out.pb.gz");
    let mut arguments = vec!["record".to_owned(), "-d".to_owned(), "2s".to_owned()];
    arguments.extend(watch(&cgroup, &inside));
    arguments.extend(["-o".to_owned(), file.display().to_string()]);
    let finished = command::run(&arguments)?.expect_code(0)?;
    let profile = ProfileView::read(&file)?;
    let pids = profile.label_values("pid");
    ensure!(pids == [inside.pid().to_string()].into(), "pids: {pids:?}; {}", finished.stderr);
    ensure!(profile.percent("samples", "spin_in_c")? > 90.0, "{}", profile.top("samples"));
    Ok(())
}

#[test]
fn a_recording_of_a_cgroup_has_none_of_the_host() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    recorded(|cgroup, _| vec!["--cgroup".to_owned(), cgroup.path().display().to_string()])
}

#[test]
fn a_cgroup_may_be_named_by_its_path_in_the_mount() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    recorded(|cgroup, _| {
        vec!["--cgroup".to_owned(), cgroup.name().trim_start_matches('/').to_owned()]
    })
}

#[test]
fn a_recording_of_a_process_has_no_other() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    recorded(|_, inside| vec!["-p".to_owned(), inside.pid().to_string()])
}

#[test]
fn a_recording_of_the_host_has_every_cgroup() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::c("spin")?;
    let homes = [TestCgroup::new()?, TestCgroup::new()?];
    let mut programs = Vec::new();
    for home in &homes {
        let mut program = Program::start(&workload, Some(home))?;
        program.ask("spin", "spinning")?;
        programs.push(program);
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("host.pb.gz");
    let output = file.to_str().context("a path that is not UTF-8")?;
    command::run(["record", "-a", "-d", "2s", "-o", output])?.expect_code(0)?;
    let profile = ProfileView::read(&file)?;
    let pids = profile.label_values("pid");
    for program in &programs {
        ensure!(pids.contains(&program.pid().to_string()), "{} is not in {pids:?}", program.pid());
    }
    Ok(())
}

#[test]
fn a_cgroup_of_v1_is_watched_as_well() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = match TestCgroup::in_hierarchy(Hierarchy::V1("memory")) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            machine::not_run(&format!("{error:#}"))?;
            return Ok(());
        }
    };
    let setup = Setup::only_rule(&cpu_rule());
    let spike = spike::catch(&Workload::c("spin")?, &cgroup, &cgroup, setup)?;
    let profile = spike.incident.profile("cpu")?;
    let pids = profile.label_values("pid");
    ensure!(pids == [spike.program.pid().to_string()].into(), "pids: {pids:?}");
    ensure!(profile.percent("samples", "spin_in_c")? > 50.0, "{}", profile.top("samples"));
    let cgroups = profile.label_values("cgroup");
    ensure!(cgroups == [cgroup.name()].into(), "cgroups: {cgroups:?}");
    Ok(())
}

#[test]
fn a_cgroup_includes_its_descendants() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let outer = TestCgroup::new()?;
    let middle = outer.child("middle")?;
    let inner = middle.child("inner")?;
    let setup = Setup::only_rule(&cpu_rule());
    let spike = spike::catch(&Workload::c("spin")?, &outer, &inner, setup)?;
    let profile = spike.incident.profile("cpu")?;
    ensure!(profile.percent("samples", "spin_in_c")? > 50.0, "{}", profile.top("samples"));
    let cgroups = profile.label_values("cgroup");
    ensure!(cgroups == [inner.name()].into(), "cgroups: {cgroups:?}");
    // Declared inner before outer is dropped: a cgroup goes after those inside it.
    drop(spike);
    drop((inner, middle));
    drop(outer);
    Ok(())
}

#[test]
fn a_cgroup_made_while_the_recorder_runs_is_seen() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let outer = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&outer).start()?;
    let late = outer.child("late")?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&late))?;
    program.ask("spin", "spinning")?;
    recorder.trigger()?;
    let profile = recorder.wait_incident(1)?.profile("cpu")?;
    ensure!(profile.cumulative("samples", "spin_in_c")? > 0, "{}", profile.top("samples"));
    ensure!(profile.label_values("cgroup").contains(&late.name()), "its cgroup has no name");
    drop((program, late));
    drop(outer);
    Ok(())
}
