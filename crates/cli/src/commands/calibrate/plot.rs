//! A curve in a terminal: quality over the share that is kept.

use troika_remote::cascade::calibrate::Point;

const WIDTH: usize = 50;
const HEIGHT: usize = 10;

/// Draws the curve from nothing kept, where quality is the remote's, to everything. `target` is a line across it, and `at` the
/// share that was chosen.
pub(super) fn plot(curve: &[Point], target: Option<f64>, at: Option<f64>) -> String {
    let start = (0.0, 1.0);
    let points = curve.iter().map(|point| (point.kept, point.quality));
    let points: Vec<(f64, f64)> = std::iter::once(start).chain(points).collect();
    let all = points.iter().map(|&(_, quality)| quality).chain(target);
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), quality| {
        (low.min(quality), high.max(quality))
    });
    // A flat curve has a height, too.
    let low = low.min(high - 0.01);
    let row = |quality: f64| {
        let down = (high - quality) / (high - low) * (HEIGHT - 1) as f64;
        (down.round() as usize).min(HEIGHT - 1)
    };
    let column = |kept: f64| ((kept * WIDTH as f64).round() as usize).min(WIDTH);
    let mut cells = vec![[' '; WIDTH + 1]; HEIGHT];
    if let Some(target) = target {
        cells[row(target)].fill('-');
    }
    let mut before = 0;
    for (x, slot) in (0..=WIDTH).map(|x| (x, x as f64 / WIDTH as f64)) {
        while points
            .get(before + 1)
            .is_some_and(|&(kept, _)| kept <= slot + 1e-9)
        {
            before += 1;
        }
        let furthest = points.last().map_or(0.0, |&(kept, _)| kept);
        if slot <= furthest + 1e-9 {
            cells[row(points[before].1)][x] = '*';
        }
    }
    if let Some(at) = at {
        let there = points.iter().rfind(|&&(kept, _)| kept <= at + 1e-9);
        cells[row(there.map_or(1.0, |&(_, quality)| quality))][column(at)] = 'O';
    }
    let mut text = String::from("quality\n");
    for (i, line) in cells.iter().enumerate() {
        let quality = high - (high - low) * i as f64 / (HEIGHT - 1) as f64;
        let line: String = line.iter().collect();
        text.push_str(&format!("{quality:6.3} |{}\n", line.trim_end()));
    }
    text.push_str(&format!("       +{}\n", "-".repeat(WIDTH + 1)));
    text.push_str(&format!(
        "        0 %{:>width$}\n",
        "100 % kept here",
        width = WIDTH - 2
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kept: f64, quality: f64) -> Point {
        Point {
            threshold: 1.0 - kept,
            kept,
            quality,
            risk: 0.0,
        }
    }

    #[test]
    fn a_curve_falls_from_the_remote_to_this_machine() {
        let curve = [point(0.5, 1.0), point(0.75, 0.9), point(1.0, 0.5)];
        let drawn = plot(&curve, Some(0.95), Some(0.5));
        insta::assert_snapshot!(drawn, @r"
        quality
         1.000 |*************************O************
         0.944 |---------------------------------------------------
         0.889 |                                      ************
         0.833 |
         0.778 |
         0.722 |
         0.667 |
         0.611 |
         0.556 |
         0.500 |                                                  *
               +---------------------------------------------------
                0 %                                 100 % kept here
        ");
    }

    #[test]
    fn nothing_and_everything_can_be_drawn() {
        for curve in [
            &[][..],
            &[point(1.0, 1.0)],
            &[point(1.0, 0.0)],
            &[point(0.5, 1.2)],
        ] {
            let drawn = plot(curve, None, None);
            assert_eq!(drawn.lines().count(), HEIGHT + 3, "{drawn}");
            assert!(
                drawn.lines().all(|line| line.chars().count() <= WIDTH + 9),
                "{drawn}"
            );
        }
    }
}
