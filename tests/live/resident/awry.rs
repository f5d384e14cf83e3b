//! Numbers that are easily wrong: memory that is there without a fault of the process, faults without
//! memory, and processes that are no longer what they were.

use anyhow::ensure;
use holmes_tests::machine;

use super::{MIB, TOUCHED, Watched, expect, expect_both};

/// Memory that another process wrote, or the kernel put in place at once, came without a fault of this
/// one: whatever it touches afterwards is not charged for it.
#[test]
fn what_came_without_a_fault_is_nobodys() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for command in ["written", "populate"] {
        let mut watched = Watched::c()?;
        for _ in 0..4 {
            watched.does(&format!("{command} 128"))?;
            watched.does("innocent 100")?;
        }
        let profile = watched.profile()?;
        println!("{command}:\n{}", profile.top("alloc_space"));
        let innocent = profile.cumulative("alloc_space", "innocent_in_c")?;
        // Four hundred and forty times 64 pages.
        expect(&format!("innocent beside {command}"), innocent, 110, 10)?;
        let written = profile.cumulative("alloc_space", "written_by_another")?;
        ensure!(written < 8 * MIB, "{written} bytes are charged to who was written to");
    }
    Ok(())
}

/// Reading memory that nobody has written to shows zeroes, and takes none.
#[test]
fn looking_at_fresh_memory_takes_none() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does("look 256")?;
    let profile = watched.profile()?;
    for kind in ["alloc_space", "inuse_space"] {
        let looked = profile.cumulative(kind, "look_in_c")?;
        ensure!(looked < 8 * MIB, "{kind}: {looked}\n{}", profile.top(kind));
    }
    // Writing to it does.
    watched.does("copy")?;
    expect_both(&watched.profile()?, "copy_in_c", [256, 256])
}

#[test]
fn another_program_has_none_of_the_memory_of_the_one_before() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.program.ask("exec", "ready")?;
    watched.is_seen()?;
    watched.does("read 128")?;
    let profile = watched.profile()?;
    expect_both(&profile, "touch_in_c", [TOUCHED, 0])?;
    expect_both(&profile, "read_in_c", [128, 128])
}

/// Who has ended has nothing in use; who ends while an incident is being made had it.
#[test]
fn who_has_ended_has_nothing() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("end")?;
    let incident = watched.incident()?;
    // The incident's window ends a second after the trigger.
    expect_both(&incident.profile("memory")?, "touch_in_c", [TOUCHED, 0])?;
    ensure!(incident.number("/memory/attributed_bytes")? < 8.0 * MIB as f64);
    Ok(())
}
