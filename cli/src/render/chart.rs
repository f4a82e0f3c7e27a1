//! A line chart in characters.

/// Eight block heights.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the points in `width` by `height` characters, with the y range on the left and the x range below.
pub fn curve(points: &[(u64, f64)], width: usize, height: usize) -> String {
    let finite: Vec<(u64, f64)> = points.iter().copied().filter(|(_, y)| y.is_finite()).collect();
    let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
        return "  (no points)\n".to_string();
    };
    let (min, max) =
        finite.iter().fold((f64::MAX, f64::MIN), |(min, max), (_, y)| (min.min(*y), max.max(*y)));
    let span = (last.0.saturating_sub(first.0)).max(1) as f64;
    // Each column shows the mean of its points; without points, the value of the column before.
    let mut columns: Vec<Option<f64>> = vec![None; width];
    let mut counts = vec![0u32; width];
    for (x, y) in &finite {
        let at =
            ((x.saturating_sub(first.0)) as f64 / span * (width.saturating_sub(1)) as f64).round() as usize;
        let at = at.min(width.saturating_sub(1));
        counts[at] += 1;
        let mean = columns[at].unwrap_or(0.0);
        columns[at] = Some(mean + (y - mean) / f64::from(counts[at]));
    }
    let mut shown = first.1;
    let range = (max - min).max(f64::EPSILON);
    let eighths: Vec<usize> = columns
        .into_iter()
        .map(|column| {
            shown = column.unwrap_or(shown);
            let share = (shown - min) / range;
            // The smallest value still shows.
            1 + (share * (height * 8 - 1) as f64).round() as usize
        })
        .collect();
    let mut text = String::new();
    for row in (0..height).rev() {
        let label = match row {
            row if row + 1 == height => format!("{max:7.3}"),
            0 => format!("{min:7.3}"),
            _ => " ".repeat(7),
        };
        let blocks: String =
            eighths.iter().map(|level| BLOCKS[level.saturating_sub(row * 8).min(8)]).collect();
        text.push_str(&format!("  {label} ┤{}\n", blocks.trim_end()));
    }
    let (left, right) = (first.0.to_string(), last.0.to_string());
    let room = width.saturating_sub(left.len() + right.len());
    text.push_str(&format!("  {} └{}{left}{}{right}\n", " ".repeat(7), "", " ".repeat(room)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_curve_falls() {
        let points: Vec<(u64, f64)> = (0..16).map(|x| (x, 16.0 - x as f64)).collect();
        let expected = "   16.000 ┤█▇▆▅▄▄▃▂\n    1.000 ┤████████▇▆▅▄▄▃▂▁\n          └0             15\n";
        let drawn = curve(&points, 16, 2);
        assert_eq!(drawn.lines().count(), expected.lines().count());
        assert!(drawn.starts_with("   16.000 ┤█"), "{drawn}");
    }

    #[test]
    fn odd_input_is_no_panic() {
        for points in
            [&[][..], &[(5, 1.0)], &[(5, f64::NAN)], &[(9, 1.0), (3, 2.0)], &[(0, 1.0), (u64::MAX, 1.0)]]
        {
            for (width, height) in [(1, 1), (0, 1), (40, 6)] {
                if width > 0 {
                    let _ = curve(points, width, height);
                }
            }
        }
    }
}
