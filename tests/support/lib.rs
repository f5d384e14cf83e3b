//! What the tests share: the recorder and the workloads as child processes, cgroups to put them in,
//! and views of what the recorder leaves behind.
//!
//! Must not: judge the recorder. Assertions belong to the tests; what goes wrong here is an error
//! that says which step failed and what was printed until then.
//!
//! The test binaries that load the CPUs take [`machine::alone`], so they may run with any number of
//! test threads. The recorder's output is printed when a [`recorder::Recorder`] is dropped: the
//! test harness shows it with a test that failed.

#[cfg(target_arch = "x86_64")]
pub mod agreement;
pub mod cgroup;
pub mod command;
pub mod confine;
pub mod goroutines;
pub mod http;
#[cfg(target_arch = "x86_64")]
pub mod images;
pub mod incident;
pub mod machine;
pub mod metrics;
pub mod named_file;
#[cfg(target_arch = "x86_64")]
pub mod oracle;
pub mod pprof_tool;
pub mod profile_view;
pub mod program;
pub mod recorder;
pub mod refusal;
pub mod stack_copies;
pub mod timeline_view;
pub mod transcript;
pub mod workload;
