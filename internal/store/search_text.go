package store

import "understudy/internal/query"

// Ask puts a query as a person typed it into the filter. The error is a
// *query.Error, which points at the place.
func (f *MessageFilter) Ask(text string) error {
	q, err := query.Parse(text)
	if err != nil {
		return err
	}
	f.Query = q
	return nil
}
