// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"strings"
	"testing"
)

func TestAWholeBlockHasAValue(t *testing.T) {
	disk := [16]byte{1}
	if value, err := decode(disk, 7, encode(disk, 7, 42)); value != 42 || err != nil {
		t.Errorf("%d, %v", value, err)
	}
}

func TestPartsOfTwoWritesAreTorn(t *testing.T) {
	disk := [16]byte{1}
	block := append(encode(disk, 7, 42)[:1024], encode(disk, 7, 43)[1024:]...)
	if _, err := decode(disk, 7, block); !errors.Is(err, errTorn) || !strings.Contains(err.Error(), "value 43 from byte 1024 on") {
		t.Error(err)
	}
}

func TestWhatBelongsElsewhereIsNotTorn(t *testing.T) {
	disk, other := [16]byte{1}, [16]byte{2}
	for name, block := range map[string][]byte{
		"another disk":  encode(other, 7, 42),
		"another block": encode(disk, 8, 42),
		"zeroes":        make([]byte, BlockBytes),
		"half of it":    append(encode(disk, 7, 42)[:2048], encode(other, 7, 42)[2048:]...),
	} {
		if _, err := decode(disk, 7, block); err == nil || errors.Is(err, errTorn) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
