//! What needs no rights: the command line's refusals, replaying recordings, and names.

mod go_names;
mod names;
mod names_hostile;
mod names_oracle;
mod oracle;
mod replay;
mod usage;
