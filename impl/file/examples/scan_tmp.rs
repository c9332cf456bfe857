//! tmp
use std::time::Instant;
fn main() {
    let p = std::env::args().nth(1).unwrap();
    for _ in 0..5 {
        let t = Instant::now();
        let s = vellum_file::FileStorage::open_read_only(&p).unwrap();
        println!("open {:?} {}", t.elapsed(), vellum_storage::Storage::object_count(&s));
    }
}
