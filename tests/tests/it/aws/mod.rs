//! The AWS adapters against an emulator.

mod events;
mod faults;
mod jobs;
mod storage;
