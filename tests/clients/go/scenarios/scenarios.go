// Package scenarios is what the Go programs of Kafka clients share: running scenarios by name, and the
// lines that a member of a group prints (tests/clients/member.py says which).
package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	run   = rand.Uint32()
	names int
)

// Unique gives a name that no other test uses.
func Unique(name string) string {
	names++
	return fmt.Sprintf("go-%s-%08x-%d", name, run, names)
}

// Numbers gives decimal numbers from one to before another.
func Numbers(from, to int) []string {
	values := make([]string, 0, to-from)
	for number := from; number < to; number++ {
		values = append(values, strconv.Itoa(number))
	}
	return values
}

// Same ends the scenario unless both are equal.
func Same(found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%v is not %v", found, expected))
	}
}

// Check ends the scenario on an error.
func Check(err error) {
	if err != nil {
		panic(err.Error())
	}
}

// Must gives the value, and ends the scenario on an error.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Sorted gives the values in order.
func Sorted(values []string) []string {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted
}

// Scenario is a name and what is done under it.
type Scenario struct {
	Name string
	Run  func(context.Context)
}

// RunAll runs every scenario, says how each ended, and ends the program.
func RunAll(all []Scenario) {
	status := 0
	for _, scenario := range all {
		if reason := once(scenario); reason != "" {
			status = 1
			fmt.Printf("failed %s %s\n", scenario.Name, strings.ReplaceAll(reason, "\n", " "))
		} else {
			fmt.Printf("ok %s\n", scenario.Name)
		}
	}
	os.Exit(status)
}

func once(scenario Scenario) (reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	defer func() {
		if caught := recover(); caught != nil {
			reason = fmt.Sprint(caught)
		}
	}()
	scenario.Run(ctx)
	return ""
}

// Terminated ends when SIGTERM comes.
func Terminated() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	return ctx
}

// Holds says which partitions a member holds.
func Holds(partitions []int32) {
	sorted := slices.Clone(partitions)
	slices.Sort(sorted)
	words := make([]string, len(sorted))
	for at, partition := range sorted {
		words[at] = strconv.Itoa(int(partition))
	}
	fmt.Printf("assigned %s\n", strings.Join(words, ","))
}

// Record says that a member has read and committed a record.
func Record(partition int32, offset int64, value []byte) {
	fmt.Printf("record %d %d %s\n", partition, offset, value)
}
