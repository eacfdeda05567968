//! Every language's template: built with its real toolchain, put into the real server, and spoken to over SMTP. A template is taken
//! out of the tree first, as whoever begins with it does.
//!
//! `make languages` runs this; `sdk/setup-languages.sh` installs the toolchains. A language whose tools are missing is skipped, and the
//! test says so; with `WAYPOST_LANGUAGES_REQUIRED` set it fails instead.

mod filters;
mod layouts;
mod toolchain;
