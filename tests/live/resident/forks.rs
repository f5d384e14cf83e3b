//! What a process and its children share is one piece of memory, and counts once: under the function
//! that touched it, as long as one of them has it.

use std::time::Duration;

use holmes_tests::machine;

use super::{TOUCHED, Watched, expect, expect_both};

/// The recorder notes what a child has of its parent a second later: most children execute another
/// program at once.
const NOTED: Duration = Duration::from_millis(1500);

fn forked(pause: Duration) -> anyhow::Result<Watched> {
    let mut watched = Watched::c()?;
    watched.does(&format!("touch {TOUCHED}"))?;
    watched.does("fork")?;
    std::thread::sleep(pause);
    Ok(watched)
}

#[test]
fn what_is_shared_counts_once() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = forked(NOTED)?;
    expect_both(&watched.profile()?, "touch_in_c", [TOUCHED, TOUCHED])?;
    // A second child, and one that has given half back: the parent has it all.
    watched.does("child-half")?;
    watched.does("fork")?;
    std::thread::sleep(NOTED);
    expect_both(&watched.profile()?, "touch_in_c", [TOUCHED, TOUCHED])
}

/// Half is the parent's alone, and goes with it.
#[test]
fn a_child_gives_half_back_and_the_parent_ends() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for pause in [NOTED, Duration::ZERO] {
        let mut watched = forked(pause)?;
        watched.does("child-half")?;
        watched.does("child-stay")?;
        watched.does("end")?;
        // Longer than a process that has ended is remembered for the cut of a moment before.
        std::thread::sleep(NOTED);
        expect_both(&watched.profile()?, "touch_in_c", [TOUCHED, TOUCHED / 2])?;
    }
    Ok(())
}

/// The child has it all, whatever its parent does: soon after the fork, too.
#[test]
fn a_parent_gives_half_back_and_the_child_lives() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for pause in [NOTED, Duration::ZERO] {
        let mut watched = forked(pause)?;
        watched.does("half")?;
        std::thread::sleep(NOTED);
        expect_both(&watched.profile()?, "touch_in_c", [TOUCHED, TOUCHED])?;
    }
    Ok(())
}

/// Two children have the half that their parent has given back: it is there once.
#[test]
fn two_children_share_what_their_parent_has_given_back() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = forked(Duration::ZERO)?;
    watched.does("fork")?;
    std::thread::sleep(NOTED);
    watched.does("half")?;
    expect_both(&watched.profile()?, "touch_in_c", [TOUCHED, TOUCHED])
}

/// Who writes to what is shared gets a copy of its own: then there are two.
#[test]
fn a_copy_is_memory_of_its_own() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for copies in ["copy", "child-copy"] {
        let mut watched = forked(NOTED)?;
        watched.does(copies)?;
        let profile = watched.profile()?;
        let all = |kind| profile.total(kind);
        println!("{copies}:\n{}", profile.top("inuse_space"));
        expect("allocated", all("alloc_space")?, 2 * TOUCHED, 3)?;
        expect("in use", all("inuse_space")?, 2 * TOUCHED, 3)?;
        // The child ends: what is left is what the parent has.
        watched.does("child-end")?;
        let profile = watched.profile()?;
        expect("in use by one", profile.total("inuse_space")?, TOUCHED, 3)?;
    }
    Ok(())
}
