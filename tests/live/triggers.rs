//! Incidents on request: SIGUSR1 and `POST /trigger`.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::http;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::workload::Workload;

/// A recorder without rules over a program that spins, and one request.
fn on_request(request: impl Fn(&Recorder) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    program.ask("spin", "spinning")?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    request(&recorder)?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-manual-"), "the folder is called {}", incident.name());
    let stems = incident.validate()?;
    // Nobody said what the matter is, so everything is there.
    for stem in ["cpu", "cpu.base", "mmap", "threads"] {
        ensure!(stems.contains(stem), "no {stem} in {stems:?}");
    }
    let profile = incident.profile("cpu")?;
    let samples = profile.cumulative("samples", "spin_in_c")?;
    ensure!(samples > 0, "the program is not in it:\n{}", profile.top("samples"));
    // One request, one incident.
    let all = IncidentFolder::all(recorder.dump_dir())?;
    ensure!(all.len() == 1, "{} incidents for one request", all.len());
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn sigusr1() -> anyhow::Result<()> {
    on_request(|recorder| recorder.signal(libc::SIGUSR1))
}

#[test]
fn post_trigger() -> anyhow::Result<()> {
    on_request(Recorder::trigger)
}

#[test]
fn a_page_from_elsewhere_may_not_trigger() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    let origin = [("Origin", "http://elsewhere.example")];
    let response = http::request(recorder.address(), "POST", "/trigger", &origin)?;
    ensure!((400..500).contains(&response.status), "a foreign page got {response:?}");
    let response = recorder.post("/trigger?target=%00nonsense")?;
    ensure!((400..500).contains(&response.status), "nonsense got {response:?}");
    recorder.stop()?;
    Ok(())
}

/// The fields of `incident.json` that scripts rely on.
#[test]
fn the_document_tells_the_window_and_the_account() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    program.ask("spin", "spinning")?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    let document = incident.document();
    ensure!(incident.number("/schema_version")? == 1.0, "{document:#}");
    let (taken, reported) =
        (incident.number("/samples/taken")?, incident.number("/samples/reported")?);
    let lost = document.pointer("/samples/lost").and_then(|lost| lost.as_object());
    let lost: f64 = lost.into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum();
    ensure!(taken > 0.0 && taken == reported + lost, "out of balance: {document:#}");
    let text = document.to_string();
    ensure!(text.contains(&cgroup.name()), "the target is not named: {document:#}");
    for word in ["host", "onset", "trigger", "end"] {
        ensure!(text.contains(word), "nothing about {word}: {document:#}");
    }
    Ok(())
}
