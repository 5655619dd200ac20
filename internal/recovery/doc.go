// Package recovery decides how a cluster is recovered from an archive: which point
// is wanted ([Target]), with which base backup and along which timeline it can be
// reached ([Choose]), and what PostgreSQL is told to do ([Settings]).
//
// It follows PostgreSQL's own rules of where a recovery stops, and refuses, before
// anything is restored, what PostgreSQL would refuse after all of it was replayed.
package recovery
