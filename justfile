# What one can do here.

# Serve the embedded default: a daemon that is its own datastore.
run *args:
    cargo run --release -- serve {{args}}

# Everything that must pass.
test:
    .ci/setup && cargo test --locked

# 200 clients in four languages follow two replicas through ten minutes of faults, and the figures of that.
fleet:
    CRUMBD_FLEET_CLIENTS=50 CRUMBD_FLEET_SECONDS=600 cargo test --locked --test fleet -- --nocapture

# The list of everything that the binary is made of (CycloneDX), in target/release-files. deploy/release.sh alone builds the binary, too.
sbom:
    deploy/release.sh sbom

# What CI executes.
ci:
    .ci/run

lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings

docs:
    cargo doc --no-deps --locked --open

# Ingest figures of the figures page (a few minutes; --quick for a first look).
bench *args:
    cargo bench --bench ingest -- {{args}}

# Delivery figures beside the floors: bare tokio, bare axum; and beside nchan (libnginx-mod-nchan) and durable-streams
# (cargo install durable-streams) where they are installed.
bench-delivery *args:
    cargo bench --bench delivery -- {{args}}

# What durability costs beside the bare database.
bench-state *args:
    cargo bench --bench state -- {{args}}

# The same for etcd: first load, warm start, resync. It starts an etcd of its own.
bench-etcd *args:
    cargo bench --bench etcd -- {{args}}

# The same for Kubernetes: first load and latency of a change. It starts a kube-apiserver of its own, which .ci/setup builds.
bench-kubernetes *args:
    cargo bench --bench kubernetes -- {{args}}

# What a hop of a tree of relays costs.
bench-relay *args:
    cargo bench --bench relay -- {{args}}

# What the clients in Go, TypeScript and Python cost (some minutes).
bench-clients *args:
    cargo bench --bench client_languages -- {{args}}

# A mixed load on one daemon for half an hour, with faults: does its memory stay flat?
soak:
    CRUMBD_SOAK_SECONDS=1800 cargo test --locked --release --test soak -- --nocapture
