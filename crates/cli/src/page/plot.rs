//! What all plots share: SVG text in the page's colour of text, dark or light, and colours that can be told apart.

use plotters::coord::Shift;
use plotters::prelude::*;

/// Stands for the page's colour of text until the plot is done; no line of a plot has it.
pub(crate) const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Okabe and Ito's colours, told apart by nearly everyone and on both grounds.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];
/// The colour of a number.
pub(crate) fn colour(at: usize) -> RGBColor {
    PALETTE[at % PALETTE.len()]
}

/// The colour of a number as CSS has it.
pub(crate) fn hex(at: usize) -> String {
    let RGBColor(red, green, blue) = colour(at);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Draws with `draw` and returns the SVG in the page's colour.
pub(crate) fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(into)?;
    }
    // Without its declaration the SVG can stand inside a page; its size is the page's business.
    let start = text.find("<svg").unwrap_or(0);
    let fixed = format!("width=\"{}\" height=\"{}\" ", size.0, size.1);
    Ok(text[start..]
        .replacen(&fixed, "", 1)
        .replace(INK_TEXT, "currentColor"))
}

/// An error of the drawing library without the type of its back end.
pub(crate) fn into<E: std::error::Error + Send + Sync>(error: E) -> anyhow::Error {
    anyhow::anyhow!(error.to_string())
}

/// A chart of numbers over numbers.
pub(crate) type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

pub(crate) fn mesh(chart: &mut Chart<'_, '_>, x: &str, y: &str) -> anyhow::Result<()> {
    let text = ("sans-serif", 14).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .label_style(text.clone())
        .axis_desc_style(text)
        .draw()
        .map_err(into)
}
