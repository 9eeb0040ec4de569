# px-sandbox, which is a traffic-analysis node here. Built from the root of the repository.
FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked -p px-sandbox --bin px-sandbox

FROM debian:bookworm-slim
COPY --from=build /build/target/release/px-sandbox /usr/local/bin/
ENTRYPOINT ["px-sandbox"]
