//! Writing rows, as they are made, to where turning and mirroring puts them.

use media::Orientation;

use crate::planes::Grid;

/// Rows that are turned together: each row of the turned plane gets this many bytes at a time.
const STRIP: usize = 64;

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
            strip.resize(STRIP * width.next_multiple_of(BLOCK), 0);
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
        let stride = self.width.next_multiple_of(BLOCK);
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

/// Side of the blocks that are transposed at once.
const BLOCK: usize = 16;

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
    let mut block = [0u8; BLOCK * BLOCK];
    for x in (0..width).step_by(BLOCK) {
        for y in (0..rows).step_by(BLOCK) {
            for (i, to) in block.chunks_exact_mut(BLOCK).enumerate() {
                let at = (y + i) * stride + x;
                if let Some(from) = strip.get(at..at + BLOCK) {
                    to.copy_from_slice(from);
                }
            }
            transpose_block(&mut block);
            let count = (rows - y).min(BLOCK);
            let first = column + y;
            for (i, from) in block.chunks_exact(BLOCK).enumerate().take(width - x) {
                let row = grid.row_mut(x + i);
                // The usual case apart: a copy of constant length.
                if count == BLOCK
                    && let Some(to) = row.get_mut(first..first + BLOCK)
                {
                    to.copy_from_slice(from);
                } else if let (Some(to), Some(from)) =
                    (row.get_mut(first..first + count), from.get(..count))
                {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

/// Exchanges rows and columns. The index of a byte is its row's four bits, then its column's four
/// bits; each riffle turns the eight bits by one place.
fn transpose_block(block: &mut [u8; BLOCK * BLOCK]) {
    let mut other = [0u8; BLOCK * BLOCK];
    riffle(block, &mut other);
    riffle(&other, block);
    riffle(block, &mut other);
    riffle(&other, block);
}

/// Takes bytes from the first and the second half in turns.
#[inline(always)]
fn riffle(from: &[u8; BLOCK * BLOCK], to: &mut [u8; BLOCK * BLOCK]) {
    let (low, high) = from.split_at(BLOCK * BLOCK / 2);
    for ((pair, low), high) in to.chunks_exact_mut(2).zip(low).zip(high) {
        if let [first, second] = pair {
            (*first, *second) = (*low, *high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_transposed() {
        let mut block = std::array::from_fn(|i| i as u8);
        transpose_block(&mut block);
        for row in 0..BLOCK {
            for column in 0..BLOCK {
                assert_eq!(
                    usize::from(block[row * BLOCK + column]),
                    column * BLOCK + row
                );
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
