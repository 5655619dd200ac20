// Package bench measures walrecv beside the programs that people use today: what
// make bench runs and docs/PERFORMANCE.md explains. Everything is in its tests.
//
// A row of the table is one piece of work that several contenders do, one after the
// other in every round, with the same WAL and the same promises of durability. What
// counts are the medians of the rounds (-benchtime 3x), and how they compare.
package bench
