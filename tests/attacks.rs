//! What attackers did to container runtimes, done to `carob-oci`: docs/attacks.md
//! has the classes and what others do. The name of a test ends in its class.
//!
//! `CAROB_TEST_RUNTIME=PROGRAM` puts another runtime in the place of `carob-oci`, as
//! a copy, for one of the attacks may overwrite it.
//! What a test asserts is what an attacker must not get; the words of an error are
//! looked at only in our own ([`ours`]).

#[path = "attacks/accounts.rs"]
mod accounts;
#[path = "attacks/budget.rs"]
mod budget;
#[path = "oci/bundle.rs"]
#[allow(dead_code)]
mod bundle;
#[path = "attacks/caller.rs"]
mod caller;
#[path = "attacks/capabilities.rs"]
mod capabilities;
#[path = "shared/fds.rs"]
mod fds;
#[path = "attacks/host.rs"]
mod host;
#[path = "attacks/inside.rs"]
mod inside;
#[path = "attacks/numbers.rs"]
mod numbers;
#[path = "attacks/own_program.rs"]
mod own_program;
#[path = "attacks/procfs.rs"]
mod procfs;
#[path = "attacks/races.rs"]
mod races;
#[path = "attacks/rootfs.rs"]
mod rootfs;
#[path = "attacks/targets.rs"]
mod targets;
#[path = "attacks/text.rs"]
mod text;
#[path = "attacks/view.rs"]
mod view;

/// Whether it is `carob-oci` that is under test.
fn ours() -> bool {
    std::env::var_os("CAROB_TEST_RUNTIME").is_none()
}

/// That the runtime runs anything at all: where it does not, every attack fails.
fn works() {
    static WORKS: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    WORKS.get_or_init(|| {
        let b = bundle::Bundle::new();
        b.sh("echo alive", |_| {});
        assert_eq!(b.oci(&["run", "box"]).ok(), "alive\n");
    });
}
