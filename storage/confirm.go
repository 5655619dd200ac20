package storage

import "context"

// Confirmer is the optional ability of a Store in which an object can be seen
// before it is durable: its writer may be dead before it got that far. Use
// [Confirm], which works with every Store.
type Confirmer interface {
	// Confirm makes an object durable that an Open, a Stat or a List has shown. An
	// error that wraps fs.ErrNotExist says that it is gone.
	Confirm(ctx context.Context, key string) error
}

// Confirm makes sure that an object that was seen is durable. In a Store that is no
// [Confirmer] it is, and there is nothing to ask.
func Confirm(ctx context.Context, s Store, key string) error {
	if c, ok := s.(Confirmer); ok {
		return c.Confirm(ctx, key)
	}
	return nil
}

// Confirm implements [Confirmer], whether or not the Store below does.
func (d deadline) Confirm(ctx context.Context, key string) error {
	_, err := wait(ctx, "confirm "+key, func() (struct{}, error) {
		return struct{}{}, Confirm(ctx, d.store, key)
	}, nil)
	return err
}

// Confirm implements [Confirmer], whether or not the Store below does.
func (m metered) Confirm(ctx context.Context, key string) error { return Confirm(ctx, m.store, key) }
