//! probe
use std::io::BufRead;
use vellum_pickle::*;
fn unhex(s: &str) -> Vec<u8> {
    (0..s.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
        .collect()
}
fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let r = unhex(&line);
        let refs = match references(&r) {
            Ok(v) => {
                let bad: Vec<_> = v.iter().filter(|r| matches!(r, Reference::Bad { .. })).collect();
                let s: Vec<String> = v
                    .iter()
                    .filter_map(|r| {
                        if let Reference::Strong { oid, .. } = r {
                            Some(format!("{oid:016x}"))
                        } else {
                            None
                        }
                    })
                    .collect();
                format!("{} {}", s.join(","), bad.len())
            }
            Err(e) => format!("ERR {e}"),
        };
        let class = class_of(&r)
            .map(|c| c.to_string())
            .unwrap_or_else(|e| format!("ERR {e}"));
        let shown = render(&r, &RenderOptions::default()).unwrap_or_else(|e| format!("ERR {e}"));
        let plain = match decode_plain(&r) {
            Ok((v, n)) => {
                let e = encode(&v);
                format!("{n} {}", e.iter().map(|b| format!("{b:02x}")).collect::<String>())
            }
            Err(e) => format!("ERR {e}"),
        };
        println!("{refs}\t{class}\t{}\t{plain}", shown.replace('\n', "\\n"));
    }
}
