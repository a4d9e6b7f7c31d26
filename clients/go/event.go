package crumbd

// Status says how far the daemon is with its datastore.
type Status string

// The statuses of a daemon.
const (
	WaitForDatastore Status = "wait-for-datastore"
	ResyncInProgress Status = "resync-in-progress"
	InSync           Status = "in-sync"
)

// ChangeType says what happened to a key, relative to what the application was told before.
type ChangeType int

// The types of a change.
const (
	New ChangeType = iota + 1
	Updated
	Deleted
)

// String returns the name that the daemon's records have for the type.
func (t ChangeType) String() string {
	switch t {
	case New:
		return "new"
	case Updated:
		return "updated"
	case Deleted:
		return "deleted"
	}
	return "unknown"
}

// Change is one change of one key. The slices are shared with the state: read them, do not write to them.
type Change struct {
	Type ChangeType
	Key  []byte
	// Value is the new value; nil for a deletion.
	Value []byte
	// Old is the value before; nil for a new key.
	Old []byte
}

// Gap says why a state was read again.
type Gap string

// The reasons to read the whole state again.
const (
	// CursorGone: the daemon does not keep the cursor any more, or its history is another.
	CursorGone Gap = "cursor-gone"
	// RightsChanged: the client may read other keys than before.
	RightsChanged Gap = "rights-changed"
	// Mismatch: an answer did not lead to the count or digest that the daemon names.
	Mismatch Gap = "mismatch"
)

// Event is one answer of the daemon after it was applied as a whole.
type Event struct {
	// Cursor is the position of the daemon's state. It is opaque.
	Cursor string
	// Status is that of the daemon.
	Status Status
	// Changes are the differences to what the application was told before, with at most one for each key.
	Changes []Change
	// Snapshot says that the whole state was read: at the start, or again after a Gap.
	Snapshot bool
	// Gap says why the state was read again; empty where it was continued, or read for the first time.
	Gap Gap
	// Count and Digest are those of the state that the application knows after the changes, computed here.
	Count  int
	Digest Digest
}

// Resync reports whether the event comes from reading the whole state again.
func (e Event) Resync() bool { return e.Snapshot && e.Gap != "" }
