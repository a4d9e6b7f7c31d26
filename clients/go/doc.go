// Package crumbd follows the state of a crumbd daemon.
//
// A daemon serves the keys and values of a datastore, and every change of them. Follow returns an iterator over the
// changes. A Mirror keeps the state in memory and calls handlers, in the manner of an informer of client-go. Both go on
// by themselves after failures, restarts and changes of replica, from where they were; nobody needs to sleep, retry or
// compare.
//
// Both keep these promises:
//
//   - An answer is applied whole or not at all. Where the daemon names a digest, it is checked before anything is told.
//   - Every key and value is bytes, and arrives as the daemon has it.
//   - The whole state is read again only where it cannot be continued. The old one stays visible until then, and the
//     application is told the difference.
//   - After that, deletions are told only when the daemon is in-sync, and an empty state is not taken over unless
//     Options.AllowEmpty is set, or the client's own rights were narrowed.
//   - Between failures there are random, growing pauses. Every wait has a limit.
package crumbd
