//! Miss-ratio curves as pictures.
//!
//! plotters draws an SVG; the PNG is that SVG as resvg paints it, with the fonts of the system.

use plotters::prelude::*;
use plotters::series::DashedLineSeries;
use vellum_terminal::people::size;

use crate::policy::Kind;
use crate::simulate::Prefetch;
use crate::table::Row;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 560;
/// The PNG has this many pixels for each of the SVG.
const SCALE: f32 = 2.0;

/// Fonts for the text, the first that the system has.
const FONTS: [&str; 4] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial"];

/// Why a picture was not made.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The drawing failed.
    #[error("the chart cannot be drawn: {0}")]
    Draw(String),
    /// Nothing to draw.
    #[error("the chart needs two sizes at least. Name them: --size 1MB,2MB")]
    Sizes,
}

/// Colours that stay apart for most colour-blind people; the shade of a second round is darker.
fn color(index: usize) -> RGBColor {
    const COLORS: [(u8, u8, u8); 8] = [
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (86, 180, 233),
        (213, 94, 0),
        (160, 150, 20),
        (110, 110, 110),
    ];
    let (r, g, b) = COLORS[index % COLORS.len()];
    let darker = |c: u8| if index >= COLORS.len() { c / 2 } else { c };
    RGBColor(darker(r), darker(g), darker(b))
}

/// The misses of each policy by size, as an SVG. Limits are dashed and black.
///
/// # Errors
///
/// If the rows have fewer than two sizes.
pub fn svg(title: &str, rows: &[Row]) -> Result<String, Fault> {
    let mut out = String::new();
    draw(title, rows, &mut out)?;
    Ok(out)
}

fn draw(title: &str, rows: &[Row], out: &mut String) -> Result<(), Fault> {
    let rows: Vec<_> = rows.iter().filter(|row| row.prefetch == Prefetch::None).collect();
    let sizes = || rows.iter().map(|row| row.bytes as f64);
    let (least, most) = (sizes().fold(f64::MAX, f64::min), sizes().fold(0.0, f64::max));
    if rows.is_empty() || least >= most {
        return Err(Fault::Sizes);
    }
    let misses = |row: &Row| 100.0 - row.counts.hit_rate();
    let top = rows.iter().map(|row| misses(row)).fold(0.0, f64::max).max(1.0) * 1.05;
    let bottom = rows.iter().map(|row| misses(row)).fold(f64::MAX, f64::min) * 0.9;
    let failed = |error: DrawingAreaErrorKind<std::io::Error>| Fault::Draw(error.to_string());
    let area = SVGBackend::with_string(out, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .margin_right(170)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(least.log2()..most.log2(), bottom..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("size of the cache")
        .y_desc("misses, % of loads")
        .x_labels((most / least).log2().ceil() as usize + 1)
        .x_label_formatter(&|bytes| size(bytes.exp2().round() as u64))
        .y_label_formatter(&|misses| format!("{misses:.0}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    let mut kinds: Vec<Kind> = rows.iter().map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut ends = Vec::new();
    for (index, kind) in kinds.into_iter().enumerate() {
        let points: Vec<_> =
            rows.iter().filter(|row| row.kind == kind).map(|row| ((row.bytes as f64).log2(), misses(row))).collect();
        let style = if kind.is_limit() { BLACK.stroke_width(2) } else { color(index).stroke_width(2) };
        if kind.is_limit() {
            let dash = if kind == Kind::Belady { 8 } else { 3 };
            chart.draw_series(DashedLineSeries::new(points, dash, 4, style)).map_err(failed)?;
        } else {
            chart.draw_series(LineSeries::new(points, style)).map_err(failed)?;
        }
        ends.push((kind, style));
    }
    for (line, (kind, style)) in ends.into_iter().enumerate() {
        let y = 60 + 24 * line as i32;
        let x = WIDTH as i32 - 160;
        // A legend of dashes for the limits.
        let (dash, step) = match kind {
            Kind::Belady => (8, 12),
            Kind::BeladySize => (3, 7),
            _ => (26, 26),
        };
        for from in (x..x + 26).step_by(step) {
            area.draw(&PathElement::new([(from, y), (from + dash, y)], style)).map_err(failed)?;
        }
        area.draw(&Text::new(kind.name(), (x + 34, y - 6), ("sans-serif", 15))).map_err(failed)?;
    }
    area.present().map_err(failed)?;
    drop(chart);
    Ok(())
}

/// An SVG as a PNG. Its text needs a font of the system.
///
/// # Errors
///
/// If the SVG cannot be read, or the picture has no bytes.
pub fn png(svg: &str) -> Result<Vec<u8>, Fault> {
    use resvg::{tiny_skia, usvg};
    let failed = |what: String| Fault::Draw(what);
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let has = |name: &str| fonts.faces().any(|face| face.families.iter().any(|(family, _)| family == name));
    // The generic name is that of a font which most systems do not have.
    if let Some(name) = FONTS.into_iter().find(|name| has(name)) {
        fonts.set_sans_serif_family(name);
    }
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let (width, height) = ((WIDTH as f32 * SCALE) as u32, (HEIGHT as f32 * SCALE) as u32);
    let mut pixels =
        tiny_skia::Pixmap::new(width, height).ok_or_else(|| failed("the picture has no pixels".to_owned()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}
