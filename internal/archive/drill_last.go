package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// LastDrill reads what the drill found that began last, nil if there was none. With a
// result that cannot be read it is the last of the others, and the error wraps a
// [DamagedError] or a [FormatError]. It takes one listing, and one request if nothing is
// wrong.
func (a *Archive) LastDrill(ctx context.Context) (*DrillResult, error) {
	ids, err := a.Drills(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the drills: %w", err)
	}
	var wrong error
	for i := len(ids) - 1; i >= 0; i-- {
		r, err := a.Drill(ctx, ids[i])
		var damaged *DamagedError
		var format *FormatError
		switch {
		case err == nil:
			return &r, wrong
		case errors.Is(err, fs.ErrNotExist): // deleted since
		case errors.As(err, &damaged), errors.As(err, &format):
			if wrong == nil {
				wrong = err
			}
		default:
			return nil, err
		}
	}
	return nil, wrong
}
