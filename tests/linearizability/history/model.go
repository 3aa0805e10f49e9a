// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"sort"

	"github.com/anishathalye/porcupine"
)

// step is the input of one operation of the model. An optional write may take effect when it is
// linearized, or not at all.
type step struct {
	op       *Op
	optional bool
}

// register is the model of one block. Its state is the set of values that the block may hold: more than one after an
// optional write. So only the order of the operations causes branches.
var register = porcupine.Model{
	Init: func() interface{} { return []int64{0} },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		values, now := state.([]int64), input.(step)
		switch {
		case now.op.Kind == Read:
			if !contains(values, now.op.Value) {
				return false, state
			}
			return true, []int64{now.op.Value}
		case now.optional:
			return true, with(values, now.op.Value)
		}
		return true, []int64{now.op.Value}
	},
	Equal: func(one, other interface{}) bool {
		a, b := one.([]int64), other.([]int64)
		if len(a) != len(b) {
			return false
		}
		for index := range a {
			if a[index] != b[index] {
				return false
			}
		}
		return true
	},
	DescribeOperation: func(input, _ interface{}) string {
		now := input.(step)
		text := fmt.Sprintf("#%d %s %d", now.op.ID, now.op.Kind, now.op.Value)
		if now.optional {
			text += "?"
		}
		return text
	},
	DescribeState: func(state interface{}) string { return fmt.Sprint(state) },
}

func contains(values []int64, wanted int64) bool {
	at := sort.Search(len(values), func(i int) bool { return values[i] >= wanted })
	return at < len(values) && values[at] == wanted
}

// with returns the sorted set with an additional value, without changing `values`.
func with(values []int64, added int64) []int64 {
	if contains(values, added) {
		return values
	}
	more := append(append(make([]int64, 0, len(values)+1), values...), added)
	sort.Slice(more, func(i, j int) bool { return more[i] < more[j] })
	return more
}

// operations returns the history of one block for porcupine. An optional write whose value was never read is omitted:
// assuming that it had no effect allows every order that its effect would allow.
func operations(ops []Op) []porcupine.Operation {
	seen := map[int64]bool{}
	for index := range ops {
		if ops[index].Kind == Read {
			seen[ops[index].Value] = true
		}
	}
	clients := map[string]int{}
	client := func(name string) int {
		if _, known := clients[name]; !known {
			clients[name] = len(clients)
		}
		return clients[name]
	}
	var all []porcupine.Operation
	for index := range ops {
		op := &ops[index]
		end, optional := op.Return, false
		if op.Outcome == Unknown {
			end, optional = op.Fence, true
		}
		if !optional || seen[op.Value] {
			all = append(all, porcupine.Operation{ClientId: client(op.Host), Input: step{op, optional},
				Call: op.Call, Return: end})
		}
		if op.Kind != Write || !seen[op.Value] {
			continue
		}
		for repeat := 0; repeat < op.Repeats; repeat++ {
			all = append(all, porcupine.Operation{ClientId: client(fmt.Sprintf("%s, repeat %d", op.Host, repeat+1)),
				Input: step{op, true}, Call: op.Call, Return: end})
		}
	}
	return all
}
