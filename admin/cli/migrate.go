package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/internal/store"
)

type migrateCmd struct{}

// Run migrates as the role of migrate_database, or as the usual one.
func (migrateCmd) Run(e *env) error {
	c, err := loadConfig(e.config)
	if err != nil {
		return err
	}
	db := &c.Database
	if c.MigrateDatabase != nil {
		db = c.MigrateDatabase
	}
	pool, err := db.PoolConfig()
	if err != nil {
		return err
	}
	pool.ConnConfig.ConnectTimeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(e.ctx, time.Hour) // an index over a large archive takes its time
	defer cancel()
	applied, err := store.Migrate(ctx, pool)
	if err != nil {
		return err
	}
	if applied == nil {
		applied = []string{}
	}
	text := "the schema was up to date"
	if len(applied) > 0 {
		text = fmt.Sprintf("applied %s", strings.Join(applied, "\napplied "))
	}
	return e.print(map[string]any{"applied": applied}, "%s", text)
}
