//! Chains of promises.

use std::sync::mpsc::channel;

use vellum_client::Promise;

fn counted_down(n: u32) -> Promise<u32> {
    match n {
        0 => Promise::of(Ok(0)),
        _ => Promise::of(Ok(n)).then(|n| counted_down(n - 1)),
    }
}

/// As of a program that follows references in its cache, whose answers are there at once.
#[test]
fn a_long_chain_takes_no_stack() {
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let counted = thread.spawn(|| counted_down(100_000).wait()).unwrap();
    assert_eq!(counted.join().unwrap(), Ok(0));
}

#[test]
fn a_panic_leaves_the_others_their_answers() {
    let (sender, heard) = channel();
    let begun = std::thread::spawn(move || {
        Promise::of(Ok(1)).finally(move |answer| {
            let inner = Promise::of(answer);
            inner.finally(|_| panic!("of a continuation"));
            inner.finally(move |answer| sender.send(answer).unwrap());
        });
    });
    assert!(begun.join().is_err(), "the panic comes out");
    assert_eq!(heard.recv().unwrap(), Ok(1));
}
