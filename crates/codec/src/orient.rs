//! Writing rows, as they are made, to where turning and mirroring puts them.

use media::Orientation;

use crate::planes::Grid;

/// Rows that are turned together: each row of the turned plane gets this many bytes at a time.
const STRIP: usize = 32;

/// The turn as flips of the source, followed by an exchange of rows and columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    flip_columns: bool,
    flip_rows: bool,
    pub(crate) transpose: bool,
}

impl Turn {
    pub(crate) fn new(orientation: Orientation) -> Self {
        // Without mirroring, a clockwise quarter turn takes the row from the bottom up, as a
        // column: flip the rows, then transpose. Mirroring first flips the columns once more.
        let (columns, rows, transpose) = match orientation.quarter_turns % 4 {
            0 => (false, false, false),
            1 => (false, true, true),
            2 => (true, true, false),
            _ => (true, false, true),
        };
        Self {
            flip_columns: columns != orientation.mirrored,
            flip_rows: rows,
            transpose,
        }
    }
}

/// Takes the rows of one plane in source order, top to bottom, each once.
pub(crate) struct RowSink<'a> {
    grid: &'a mut Grid,
    strip: &'a mut Vec<u8>,
    turn: Turn,
    /// Size of the plane before turning.
    width: usize,
    height: usize,
    /// Next row.
    y: usize,
}

impl<'a> RowSink<'a> {
    /// `grid` has at least the size of the plane after turning.
    pub(crate) fn new(
        grid: &'a mut Grid,
        strip: &'a mut Vec<u8>,
        turn: Turn,
        (width, height): (usize, usize),
    ) -> Self {
        if turn.transpose {
            strip.resize(STRIP * width.next_multiple_of(8), 0);
        }
        Self {
            grid,
            strip,
            turn,
            width,
            height,
            y: 0,
        }
    }

    /// Lets `write` fill the next row, `width` samples.
    #[inline(always)]
    pub(crate) fn row(&mut self, write: impl FnOnce(&mut [u8])) {
        let y = self.y;
        if y >= self.height {
            return;
        }
        self.y += 1;
        if !self.turn.transpose {
            let at = if self.turn.flip_rows {
                self.height - 1 - y
            } else {
                y
            };
            let Some(row) = self.grid.row_mut(at).get_mut(..self.width) else {
                return;
            };
            write(row);
            if self.turn.flip_columns {
                row.reverse();
            }
            return;
        }
        let stride = self.width.next_multiple_of(8);
        let first = y - y % STRIP;
        let rows = STRIP.min(self.height - first);
        let inside = y - first;
        let at = if self.turn.flip_rows {
            rows - 1 - inside
        } else {
            inside
        } * stride;
        let Some(row) = self.strip.get_mut(at..at + self.width) else {
            return;
        };
        write(row);
        if self.turn.flip_columns {
            row.reverse();
        }
        if inside + 1 == rows {
            let column = if self.turn.flip_rows {
                self.height - first - rows
            } else {
                first
            };
            transpose_strip(self.strip, stride, rows, self.grid, self.width, column);
        }
    }
}

/// Writes the strip's `rows` rows as columns `column..column + rows` of the grid's first `width`
/// rows.
fn transpose_strip(
    strip: &[u8],
    stride: usize,
    rows: usize,
    grid: &mut Grid,
    width: usize,
    column: usize,
) {
    for x in (0..width).step_by(8) {
        for y in (0..rows).step_by(8) {
            let block: [u64; 8] = std::array::from_fn(|i| {
                let at = (y + i) * stride + x;
                strip
                    .get(at..)
                    .and_then(|s| s.first_chunk::<8>())
                    .map_or(0, |&bytes| u64::from_le_bytes(bytes))
            });
            let count = (rows - y).min(8);
            for (i, column_of_block) in transpose_8x8(block).into_iter().enumerate() {
                if x + i >= width {
                    break;
                }
                let bytes = column_of_block.to_le_bytes();
                let row = grid.row_mut(x + i);
                if let Some(target) = row.get_mut(column + y..column + y + count)
                    && let Some(bytes) = bytes.get(..count)
                {
                    target.copy_from_slice(bytes);
                }
            }
        }
    }
}

/// Byte `i` of word `j` becomes byte `j` of word `i` (little endian), by exchanging halves of
/// ever smaller blocks.
#[inline(always)]
fn transpose_8x8(mut m: [u64; 8]) -> [u64; 8] {
    let exchange = |m: &mut [u64; 8], distance: usize, shift: u32, mask: u64| {
        for i in 0..8usize {
            if i & distance == 0
                && let (Some(&low), Some(&high)) = (m.get(i), m.get(i + distance))
            {
                let swap = ((low >> shift) ^ high) & mask;
                if let Some(v) = m.get_mut(i + distance) {
                    *v = high ^ swap;
                }
                if let Some(v) = m.get_mut(i) {
                    *v = low ^ (swap << shift);
                }
            }
        }
    };
    exchange(&mut m, 4, 32, 0x0000_0000_ffff_ffff);
    exchange(&mut m, 2, 16, 0x0000_ffff_0000_ffff);
    exchange(&mut m, 1, 8, 0x00ff_00ff_00ff_00ff);
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_transposed() {
        let block =
            std::array::from_fn(|j| u64::from_le_bytes(std::array::from_fn(|i| (j * 8 + i) as u8)));
        for (i, word) in transpose_8x8(block).into_iter().enumerate() {
            for (j, byte) in word.to_le_bytes().into_iter().enumerate() {
                assert_eq!(usize::from(byte), j * 8 + i);
            }
        }
    }

    /// Mirror left–right, then turn clockwise, one sample at a time.
    fn by_hand(source: &[Vec<u8>], orientation: Orientation) -> Vec<Vec<u8>> {
        let mut picture = source.to_vec();
        if orientation.mirrored {
            picture.iter_mut().for_each(|row| row.reverse());
        }
        for _ in 0..orientation.quarter_turns {
            let (w, h) = (picture[0].len(), picture.len());
            picture = (0..w)
                .map(|r| (0..h).map(|c| picture[h - 1 - c][r]).collect())
                .collect();
        }
        picture
    }

    #[test]
    fn rows_land_where_mirroring_and_turning_put_them() {
        for (width, height) in [(1, 1), (7, 3), (8, 8), (33, 70), (64, 32), (5, 65)] {
            let source: Vec<Vec<u8>> = (0..height)
                .map(|y| (0..width).map(|x| (x * 31 + y * 7 + x * y) as u8).collect())
                .collect();
            for mirrored in [false, true] {
                for quarter_turns in 0..4 {
                    let orientation = Orientation {
                        mirrored,
                        quarter_turns,
                    };
                    let expected = by_hand(&source, orientation);
                    let (mut grid, mut strip) = (Grid::default(), Vec::new());
                    grid.reshape(expected[0].len(), expected.len());
                    let turn = Turn::new(orientation);
                    let mut sink = RowSink::new(&mut grid, &mut strip, turn, (width, height));
                    for row in &source {
                        sink.row(|out| out.copy_from_slice(row));
                    }
                    for (y, row) in expected.iter().enumerate() {
                        assert_eq!(grid.row(y), row, "{width}x{height} {orientation:?} row {y}");
                    }
                }
            }
        }
    }
}
