//! holmes-ebpf, the recorder: a flight recorder for production incidents.
//!
//! # Layout
//! The modules are the data path, in this order. Each imports only those before it.
//!
//! - [`kernel`]: loads and attaches the probes, and says which are on and why others are off;
//! - [`collect`]: drains their ring buffer: bytes become [`collect::Observation`]s;
//! - [`binary`]: bounded readers of executable files, for the stages that need a part of them;
//! - [`process`]: says whose they are: [`process::Attributed`], with the process's image and cgroup;
//! - [`unwind`]: makes the tables that the probes walk stacks by, on demand;
//! - [`golang`]: reads the goroutines of a Go process and its own heap profile from outside:
//!   [`golang::Snapshot`], [`golang::HeapProfile`];
//! - [`window`]: keeps the last minutes of them, exact, in one-second buckets under a cap;
//! - [`signals`]: reads CPU, memory and threads of each target: [`signals::SignalFrame`];
//! - [`rules`]: decides whether a value is a spike: [`rules::Decision`];
//! - [`capture`]: turns a spike into a [`capture::Incident`]: look-back, onset, after, baseline;
//! - [`symbolize`]: names the addresses of an incident: [`symbolize::SymbolTable`];
//! - [`profile`]: makes pprof and folded files of them;
//! - [`store`]: puts an incident's folder on disk, whole or not at all, and retires old ones;
//! - [`serve`]: `/metrics`, `/healthz`, `/readyz`, `POST /trigger`.
//!
//! `pipeline` alone wires the stages; `cli` reads the command line and the configuration file into
//! [`settings`], which is all the two share.

pub mod settings;

pub mod kernel;

pub mod collect;

pub mod binary;

pub mod process;

pub mod unwind;

pub mod golang;

pub mod window;

pub mod signals;

pub mod rules;

pub mod capture;

pub mod symbolize;

pub mod profile;

pub mod store;

pub mod serve;

pub mod cli;

pub mod pipeline;

#[cfg(test)]
mod fuzz_seeds_tests;
