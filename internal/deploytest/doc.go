// Package deploytest deploys Understudy with its Ansible playbook into real
// Debian systems and uses it: with systemd as PID 1 (systemd-nspawn), and
// without (namespaces and a small PID 1). Each system has its own network, so
// that it listens on the real ports, 25 and 143 among them, and touches
// nothing of the machine it runs on.
//
// The tests are slow, need root and the packages ansible, debootstrap,
// systemd-container and zstd; so they have the build tag deploy:
//
//	go test -tags deploy -timeout 60m ./internal/deploytest
//
// The Debian systems are made once, with the packages of the playbook
// downloaded but not installed, and kept in understudy-deploytest below the
// user's cache directory. Further runs need no network.
package deploytest
