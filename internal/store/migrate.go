package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// grants are for tables that are not made by our own migrations.
const grants = `
	GRANT SELECT ON goose_db_version TO understudy_app, understudy_mail, understudy_auth;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO understudy_app;
	GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO understudy_app;
	REVOKE INSERT, UPDATE, DELETE ON goose_db_version FROM understudy_app;`

// Migrate brings the schema to this program's version: our tables (goose)
// and River's. cfg is of the role that owns the schema; the service roles
// (docs/architecture.md) must exist. It returns what was applied.
func Migrate(ctx context.Context, cfg *pgxpool.Config) ([]string, error) {
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer pool.Close()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate (do the roles understudy_app, understudy_mail and understudy_auth exist?): %w", err)
	}
	var applied []string
	for _, r := range results {
		applied = append(applied, r.Source.Path)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return applied, fmt.Errorf("migrate job queue: %w", err)
	}
	res, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return applied, fmt.Errorf("migrate job queue: %w", err)
	}
	for _, v := range res.Versions {
		applied = append(applied, fmt.Sprintf("job queue %03d %s", v.Version, v.Name))
	}
	if _, err := pool.Exec(ctx, grants); err != nil {
		return applied, fmt.Errorf("grant rights: %w", err)
	}
	return applied, nil
}

// newestMigration is the version that this program was built with.
func newestMigration() (int64, error) {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(entries[len(entries)-1].Name(), "_")
	return strconv.ParseInt(number, 10, 64)
}
