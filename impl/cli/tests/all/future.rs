//! A clock that was ahead: tids of the future stay in the file, and every command that goes by times says so.

use crate::common::site::{Site, Store, record};
use crate::common::{Sandbox, without_time};
use vellum_storage::{Tid, TransactionMeta};

/// Two transactions of yesterday, and two of next year; the tid of the first of those.
fn site(sandbox: &Sandbox) -> Tid {
    let mut site = Site::new(sandbox, "shop.fs");
    let product = |bytes| record("Product", &[], &[], bytes);
    site.commit("ann", "open the shop", vec![Store(0, record("Root", &[1], &[], 0)), Store(1, product(300))]);
    site.commit("ann", "a new price", vec![Store(1, product(310))]);
    let ahead = Tid::at("2027-03-01T09:00:00Z".parse().unwrap());
    for (n, bytes) in [(0, 320), (1, 330)] {
        let meta = TransactionMeta::new().user("bob").description("the clock was ahead").tid(Tid(ahead.0 + n));
        site.commit_with(meta, vec![Store(1, product(bytes))]);
    }
    ahead
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    let commands: &[&[&str]] = &[
        &["log", "shop.fs", "-n", "1"],
        &["check", "shop.fs"],
        &["pack", "shop.fs", "--dry-run"],
        &["show", "shop.fs", "1", "--at", "now"],
        &["copy", "shop.fs", "then.fs", "--until", "now"],
        &["log", "shop.fs", "--until", "now", "-n", "1"],
    ];
    assert_session!("cli-future", without_time(sandbox.session(commands)));
}

/// Each command says it once, and names the tid with which it begins; where no clock was ahead, none says anything.
#[test]
fn every_command_that_goes_by_times_warns_once() {
    let ahead = {
        let sandbox = Sandbox::new();
        site(&sandbox)
    };
    for arguments in [
        &["info", "shop.fs"][..],
        &["check", "shop.fs"],
        &["log", "shop.fs"],
        &["log", "shop.fs", "--since", "today", "--json"],
        &["pack", "shop.fs", "--dry-run", "--json"],
        &["pack", "shop.fs", "--yes"],
        &["copy", "shop.fs", "then.fs", "--until", "now"],
        &["refs", "shop.fs", "1", "--at", "now"],
        &["garbage", "shop.fs"],
    ] {
        let sandbox = Sandbox::new();
        site(&sandbox);
        let run = sandbox.run(arguments);
        assert_eq!(run.stderr.matches("of the future").count(), 1, "{arguments:?}: {}", run.stderr);
        let named = if arguments.contains(&"--at") { Tid(ahead.0 + 1) } else { ahead };
        assert!(run.stderr.contains(&named.to_string()), "{arguments:?}: {}", run.stderr);
        // Without the future transactions.
        let sandbox = Sandbox::new();
        sandbox.golden("mail");
        let arguments: Vec<_> =
            arguments.iter().map(|word| if *word == "shop.fs" { "mail.fs" } else { word }).collect();
        let run = sandbox.run(&arguments);
        assert!(!run.stderr.contains("future"), "{arguments:?}: {}", run.stderr);
    }
}
