// SPDX-License-Identifier: Apache-2.0

// linearizability runs hosts on sma-targets with injected faults, and checks what the hosts observed. See README.md.
package main

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"time"

	"linearizability/history"
	"linearizability/world"
)

// Exit status: 0 guarantees kept, 1 violated, 2 the run itself failed.
const (
	exitViolated = 1
	exitFailed   = 2
)

var (
	program  = flag.String("target", "", "the program sma-target")
	folder   = flag.String("folder", "", "for logs, sockets and disks; empty: a temporary one, removed when all is well")
	scenario = flag.String("scenario", "random", "what is run; see README.md")
	seed     = flag.Int64("seed", 0, "of the random choices; 0: another one each time")
	length   = flag.Duration("time", 20*time.Second, "how long the random scenario does harm")
	faults   = flag.String("faults", "", "kinds of harm of the random scenario, with commas in between; none; empty: all")
	plant    = flag.Int("plant", 0, "in the random scenario, so many writes are repeated late on the way to each target")
	verbose  = flag.Bool("v", false, "tell what happens")
)

const judgePerBlock = time.Minute

func main() {
	flag.Parse()
	if *program == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(exitFailed)
	}
	if *seed == 0 {
		*seed = time.Now().UnixNano() % 1000000
	}
	fmt.Printf("scenario %s, seed %d\n", *scenario, *seed)
	temporary := *folder == ""
	if temporary {
		made, err := os.MkdirTemp("", "sma-lin-")
		if err != nil {
			fail(err)
		}
		*folder = made
	}
	verdict, err := run()
	if err != nil {
		fmt.Println("logs:", *folder)
		fail(err)
	}
	report(verdict)
	if !verdict.OK() {
		fmt.Println("logs:", *folder)
		fmt.Printf("again: -scenario %s -seed %d -time %v -faults %q -plant %d\n", *scenario, *seed, *length, *faults, *plant)
		os.Exit(exitViolated)
	}
	if temporary {
		os.RemoveAll(*folder)
	}
}

func fail(err error) {
	fmt.Println("failed:", err)
	os.Exit(exitFailed)
}

func run() (*history.Verdict, error) {
	options := world.Options{Program: *program, Folder: *folder, Verbose: *verbose}
	w, err := runScenario(options)
	if w == nil {
		return nil, err
	}
	if failed := w.Close(); failed != nil && err == nil {
		err = failed
	}
	ops, strange := w.Recorder.Snapshot()
	verdict := history.Judge(ops, strange, judgePerBlock, *folder)
	if err != nil {
		report(verdict)
	}
	return verdict, err
}

func runScenario(options world.Options) (*world.World, error) {
	if *scenario == "random" {
		return random(options)
	}
	script, found := world.Scripts[*scenario]
	if !found {
		return nil, fmt.Errorf("no scenario is called %q; there are random and %v", *scenario, world.ScriptNames())
	}
	return script(options)
}

func random(options world.Options) (*world.World, error) {
	source := rand.New(rand.NewSource(*seed))
	options.Hosts, options.Gateways, options.Direct, options.Repeats = 3, 2, true, 2
	options.PathTimeout = []time.Duration{0, 600 * time.Millisecond}[source.Intn(2)]
	options.ActiveActive = source.Intn(2) == 0
	w, err := world.NewRandomWorld(options)
	if err != nil {
		return w, err
	}
	planted := w.Plant(*plant)
	nemesis, err := world.NewNemesis(w, *seed, *faults)
	if err != nil {
		return w, err
	}
	err = w.RunRandom(*seed, *length, nemesis)
	fmt.Printf("harm done: %v; late writes planted: %d\n", nemesis.Done, planted())
	return w, err
}

func report(verdict *history.Verdict) {
	fmt.Printf("%d blocks; %d reads, %d writes, %d writes of unknown outcome\n",
		verdict.Blocks, verdict.Reads, verdict.Writes, verdict.Unknown)
	const shown = 20
	for index, violation := range verdict.Violations {
		if index == shown {
			fmt.Printf("and %d violations more\n", len(verdict.Violations)-shown)
			break
		}
		fmt.Println("violation:", violation)
	}
	for _, block := range verdict.Undecided {
		fmt.Printf("undecided: block %d of %s\n", block.LBA, block.Disk)
	}
	fmt.Printf("verdict: %d violations, %d blocks undecided\n", len(verdict.Violations), len(verdict.Undecided))
}
