//! How the functions of a frame are shown, in every format alike.

use crate::symbolize::{Frame, Named, Place};

/// What is shown for samples whose stack could not be taken: they are part of every total.
pub(super) const NO_STACK: &str = "[no stack]";
/// What is shown for addresses outside everything mapped, where no address can be shown.
pub(super) const UNMAPPED: &str = "[unknown]";

/// A function's name with its kernel module.
pub(super) fn with_module(function: &str, named: &Named) -> String {
    if named.module.is_empty() {
        function.to_owned()
    } else {
        format!("{function} [{}]", named.module)
    }
}

/// The last part of an object's path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// The file of a frame without a name.
pub(super) fn module(frame: &Frame<'_>) -> String {
    match (frame.place, frame.object) {
        (Place::Kernel(_), _) => super::mappings::KERNEL.to_owned(),
        (_, Some(object)) => format!("[{}]", base_name(&object.path).trim_matches(['[', ']'])),
        (_, None) => UNMAPPED.to_owned(),
    }
}

/// A frame without a name as module and offset.
pub(super) fn module_and_offset(frame: &Frame<'_>) -> String {
    match (frame.place, frame.object) {
        (Place::Object { offset, .. }, Some(object)) => {
            format!("{}+{offset:#x}", base_name(&object.path))
        }
        (Place::Kernel(address), _) => format!("{}+{address:#x}", super::mappings::KERNEL),
        (Place::Unmapped(address) | Place::Object { offset: address, .. }, _) => {
            format!("{UNMAPPED}+{address:#x}")
        }
    }
}

/// A name in a text that has no escapes: it separates nothing. `;` stands between frames and a line's end
/// between stacks; `:` is what other tools write there.
pub(super) fn clean(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|letter| match letter {
            ';' => ':',
            _ if letter.is_control() => ' ',
            _ => letter,
        })
        .collect();
    if clean.trim().is_empty() { "?".to_owned() } else { clean }
}
