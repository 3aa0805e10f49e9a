// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	// BlockBytes is the size of a block of every disk.
	BlockBytes = 4096
	cellBytes  = 64
	magic      = 0x6b636f6c42616d53
)

// encode returns the contents of a block with `value`: each cell contains the complete value, so that a mixture of two
// writes is detected.
func encode(disk [16]byte, lba uint64, value int64) []byte {
	block := make([]byte, BlockBytes)
	for at := 0; at < BlockBytes; at += cellBytes {
		cell := block[at:]
		binary.LittleEndian.PutUint64(cell, magic)
		copy(cell[8:24], disk[:])
		binary.LittleEndian.PutUint64(cell[24:], lba)
		binary.LittleEndian.PutUint64(cell[32:], uint64(value))
		binary.LittleEndian.PutUint32(cell[40:], uint32(at))
		for fill := 44; fill < cellBytes; fill++ {
			cell[fill] = byte(value) ^ byte(fill)
		}
	}
	return block
}

// errTorn: several writes have each written a part of the block.
var errTorn = errors.New("torn")

// decode returns the value of a block, or an error for contents that no write of that block has written.
func decode(disk [16]byte, lba uint64, block []byte) (int64, error) {
	value := int64(binary.LittleEndian.Uint64(block[32:]))
	if bytes.Equal(block, encode(disk, lba, value)) {
		return value, nil
	}
	var parts []string
	torn := true
	for at, last := 0, ""; at < len(block); at += cellBytes {
		if part := describeCell(disk, lba, block[at:at+cellBytes]); part != last {
			parts, last = append(parts, fmt.Sprintf("%s from byte %d on", part, at)), part
			torn = torn && isValue(part)
		}
	}
	if len(parts) > 6 {
		parts = append(parts[:6], "...")
	}
	if torn {
		return 0, fmt.Errorf("%w: holds %v", errTorn, parts)
	}
	return 0, fmt.Errorf("holds %v", parts)
}

// isValue returns true if a cell's description is of one of the block's own values.
func isValue(described string) bool {
	return strings.HasPrefix(described, "value") && !strings.Contains(described, " of ")
}

func describeCell(disk [16]byte, lba uint64, cell []byte) string {
	switch {
	case bytes.Equal(cell, make([]byte, len(cell))):
		return "zeroes"
	case binary.LittleEndian.Uint64(cell) != magic:
		return "unknown bytes"
	}
	text := fmt.Sprintf("value %d", binary.LittleEndian.Uint64(cell[32:]))
	if !bytes.Equal(cell[8:24], disk[:]) {
		text += fmt.Sprintf(" of disk %x", cell[8:24])
	}
	if found := binary.LittleEndian.Uint64(cell[24:]); found != lba {
		text += fmt.Sprintf(" of block %d", found)
	}
	return text
}
