//! The planes of a JPEG image before it is encoded.

/// How the chroma planes of an image are subsampled, after turning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Subsampling {
    /// No chroma planes.
    #[default]
    Grey,
    /// 4:2:0.
    S420,
    /// 4:2:2, halved horizontally.
    S422,
    /// 4:4:0, halved vertically: 4:2:2 turned by 90 degrees.
    S440,
    /// 4:4:4.
    S444,
}

impl Subsampling {
    /// Log2 of how many luma columns and rows one chroma sample covers.
    pub fn shifts(self) -> (u32, u32) {
        match self {
            Self::Grey | Self::S444 => (0, 0),
            Self::S420 => (1, 1),
            Self::S422 => (1, 0),
            Self::S440 => (0, 1),
        }
    }
}

/// Full-range BT.601 planes, 8 bit. Reused between pictures; memory is kept.
#[derive(Debug, Default)]
pub struct PlanesBuf {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) subsampling: Subsampling,
    pub(crate) planes: [Grid; 3],
    /// A few rows of each plane, before they are turned.
    pub(crate) strips: [Vec<u8>; 3],
}

impl PlanesBuf {
    /// Empty planes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Luma columns, after turning.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Luma rows, after turning.
    pub fn height(&self) -> usize {
        self.height
    }

    /// How chroma is subsampled.
    pub fn subsampling(&self) -> Subsampling {
        self.subsampling
    }

    /// Columns and rows of a plane: 0 luma, 1 Cb, 2 Cr.
    pub fn plane_size(&self, index: usize) -> (usize, usize) {
        match (index, self.subsampling) {
            (0, _) => (self.width, self.height),
            (_, Subsampling::Grey) => (0, 0),
            _ => {
                let (sx, sy) = self.subsampling.shifts();
                (self.width.div_ceil(1 << sx), self.height.div_ceil(1 << sy))
            }
        }
    }

    /// One row of a plane; an empty slice past the end.
    pub fn row(&self, plane: usize, y: usize) -> &[u8] {
        let (width, height) = self.plane_size(plane);
        match self.planes.get(plane) {
            Some(grid) if y < height => grid.row(y).get(..width).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// Sets the size. Content is what it was before or zero.
    pub(crate) fn reshape(&mut self, width: usize, height: usize, subsampling: Subsampling) {
        (self.width, self.height, self.subsampling) = (width, height, subsampling);
        let (sx, sy) = subsampling.shifts();
        // libjpeg-turbo reads luma up to whole chroma samples.
        let (cols, rows) = (
            width.next_multiple_of(1 << sx),
            height.next_multiple_of(1 << sy),
        );
        let chroma = subsampling != Subsampling::Grey;
        for (i, grid) in self.planes.iter_mut().enumerate() {
            match i {
                0 => grid.reshape(cols, rows),
                _ if chroma => grid.reshape(cols >> sx, rows >> sy),
                _ => grid.reshape(0, 0),
            }
        }
    }

    /// Repeats the last column and row of luma where its size is odd and chroma is halved.
    pub(crate) fn pad(&mut self) {
        let (width, height) = (self.width, self.height);
        let grid = &mut self.planes[0];
        if grid.width > width && width > 0 {
            for y in 0..height {
                let row = grid.row_mut(y);
                if let Some(&last) = row.get(width - 1) {
                    row.iter_mut().skip(width).for_each(|v| *v = last);
                }
            }
        }
        if grid.height > height && height > 0 {
            let (start, stride) = ((height - 1) * grid.stride, grid.stride);
            grid.samples
                .copy_within(start..start + stride, start + stride);
        }
    }
}

/// Samples in rows.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    pub(crate) samples: Vec<u8>,
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Grid {
    pub(crate) fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.stride = width.next_multiple_of(32);
        self.samples.resize(self.stride * height, 0);
    }

    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let start = y * self.stride;
        self.samples.get(start..start + self.width).unwrap_or(&[])
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let start = y * self.stride;
        self.samples
            .get_mut(start..start + self.width)
            .unwrap_or(&mut [])
    }
}
