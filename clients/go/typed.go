package crumbd

import (
	"encoding/json"
	"fmt"
)

// Decode reads a value as JSON.
func Decode[T any](value []byte) (T, error) {
	var out T
	err := json.Unmarshal(value, &out)
	return out, err
}

// Typed reads the values of a Mirror as values of a type.
type Typed[T any] struct {
	mirror *Mirror
	decode func([]byte) (T, error)
}

// TypedEntry is a key with its value.
type TypedEntry[T any] struct {
	Key   []byte
	Value T
}

// TypedHandler is a Handler of decoded values. Values are decoded in its goroutine.
type TypedHandler[T any] struct {
	OnAdd    func(key []byte, value T)
	OnUpdate func(key []byte, old, value T)
	OnDelete func(key []byte, old T)
	OnStatus func(Status)
	// OnError is called in the place of the others where a value cannot be decoded.
	OnError func(key, value []byte, err error)
}

// NewTyped returns a view of a mirror. With a nil decode values are JSON, as for Decode.
func NewTyped[T any](mirror *Mirror, decode func([]byte) (T, error)) Typed[T] {
	if decode == nil {
		decode = Decode[T]
	}
	return Typed[T]{mirror: mirror, decode: decode}
}

// Get returns the decoded value of a key.
func (t Typed[T]) Get(key []byte) (value T, ok bool, err error) {
	raw, ok := t.mirror.Get(key)
	if !ok {
		return value, false, nil
	}
	value, err = t.decode(raw)
	if err != nil {
		err = fmt.Errorf("the value of key %q cannot be decoded: %w", key, err)
	}
	return value, true, err
}

// List returns the decoded entries whose keys begin with the prefix, in the order of their keys. The first value that
// cannot be decoded is an error.
func (t Typed[T]) List(prefix []byte) ([]TypedEntry[T], error) {
	entries := t.mirror.List(prefix)
	out := make([]TypedEntry[T], 0, len(entries))
	for _, entry := range entries {
		value, err := t.decode(entry.Value)
		if err != nil {
			return nil, fmt.Errorf("the value of key %q cannot be decoded: %w", entry.Key, err)
		}
		out = append(out, TypedEntry[T]{Key: entry.Key, Value: value})
	}
	return out, nil
}

// AddEventHandler registers a handler of decoded values. A key whose new value cannot be decoded keeps, for the handler,
// the value that it was told last: that is the old one of the next update or of the deletion.
func (t Typed[T]) AddEventHandler(h TypedHandler[T]) *Registration {
	// told has the values of those keys. The handler's goroutine alone uses it.
	told := map[string]T{}
	known := func(key, rawOld []byte) (old T, ok bool) {
		if old, ok = told[string(key)]; ok {
			return old, true
		}
		old, err := t.decode(rawOld)
		return old, err == nil
	}
	set := func(key, raw []byte, old T, isKnown bool) {
		value, err := t.decode(raw)
		if err != nil {
			if isKnown {
				told[string(key)] = old
			}
			if h.OnError != nil {
				h.OnError(key, raw, err)
			}
			return
		}
		delete(told, string(key))
		if isKnown && h.OnUpdate != nil {
			h.OnUpdate(key, old, value)
		} else if !isKnown && h.OnAdd != nil {
			h.OnAdd(key, value)
		}
	}
	return t.mirror.AddEventHandler(Handler{
		OnAdd: func(key, raw []byte) {
			var none T
			set(key, raw, none, false)
		},
		OnUpdate: func(key, rawOld, raw []byte) {
			old, isKnown := known(key, rawOld)
			set(key, raw, old, isKnown)
		},
		OnDelete: func(key, rawOld []byte) {
			old, isKnown := known(key, rawOld)
			delete(told, string(key))
			if isKnown && h.OnDelete != nil {
				h.OnDelete(key, old)
			}
		},
		OnStatus: h.OnStatus,
	})
}
