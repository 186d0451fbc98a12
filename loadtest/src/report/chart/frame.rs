//! The sizes a chart is drawn in. One unit is about one pixel, so that text is as large in each.

/// A picture and the plot in it.
pub(super) struct Frame {
    /// How the page's style knows it.
    pub(super) class: &'static str,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Where the plot begins, from the left.
    pub(super) left: f64,
    /// What is free right of it.
    pub(super) right: f64,
    /// Where the plot begins, from above.
    pub(super) top: f64,
    /// What is free below it.
    pub(super) bottom: f64,
    /// Figures beside the horizontal axis, about.
    pub(super) x_ticks: u32,
    /// Points that a line has room for.
    pub(super) points_max: usize,
}

/// For a screen.
pub(super) const WIDE: Frame = Frame {
    class: "wide",
    width: 640.0,
    height: 280.0,
    left: 82.0,
    right: 16.0,
    top: 34.0,
    bottom: 46.0,
    x_ticks: 8,
    points_max: 540,
};

/// For a telephone, and for two columns on paper.
pub(super) const NARROW: Frame = Frame {
    class: "narrow",
    width: 380.0,
    height: 240.0,
    left: 80.0,
    right: 12.0,
    top: 34.0,
    bottom: 46.0,
    x_ticks: 4,
    points_max: 280,
};

/// Room for two rows of names above the plot.
pub(super) const MARK_ROWS: [f64; 2] = [13.0, 27.0];
/// A letter of the charts' font, about.
pub(super) const LETTER: f64 = 6.8;

impl Frame {
    /// Where the plot ends on the right.
    pub(super) const fn right_edge(&self) -> f64 {
        self.width - self.right
    }

    /// Where the plot ends below.
    pub(super) const fn floor(&self) -> f64 {
        self.height - self.bottom
    }
}
