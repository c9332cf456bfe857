//! A chart shows all policies, as an SVG and as a PNG.
#![cfg(feature = "chart")]

use vellum_simulate::chart::{Fault, png, svg};
use vellum_simulate::policy::Kind;
use vellum_simulate::simulate::Prefetch;
use vellum_simulate::table::{Row, run};
use vellum_simulate::workload::{Step, Workload};

fn rows(sizes: &[u64]) -> Vec<Row> {
    let mut workload = Workload::default();
    for turn in 0..400_u64 {
        workload.push(1, Step::Load { oid: turn * turn % 40, size: 100 });
    }
    run("squares", &workload, &Kind::ALL, sizes, &[Prefetch::None], 0)
}

#[test]
fn every_policy_has_a_line_and_a_name() {
    let drawing = svg("squares", &rows(&[1 << 10, 2 << 10, 4 << 10])).unwrap();
    for kind in Kind::ALL {
        assert!(drawing.contains(&format!("\n{}\n", kind.name())), "{} is not in the chart", kind.name());
    }
    assert!(drawing.matches("<polyline").count() >= Kind::ALL.len());
    assert!(png(&drawing).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn one_size_is_no_curve() {
    assert!(matches!(svg("squares", &rows(&[1 << 10])), Err(Fault::Sizes)));
    assert!(matches!(svg("squares", &[]), Err(Fault::Sizes)));
}
