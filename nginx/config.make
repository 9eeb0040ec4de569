# The rule that builds what `config` links. Cargo knows what has changed, so it is always asked.

cat << END >> $NGX_MAKEFILE

.PHONY: $px_library
$px_library:
	NGINX_SOURCE_DIR="$PWD" NGINX_BUILD_DIR="$px_objs" \\
	$px_cargo rustc --release --locked --lib --crate-type staticlib --no-default-features \\
		--manifest-path "$ngx_addon_dir/../Cargo.toml" --target-dir "$px_target"

END

if [ "$px_link" = DYNAMIC ]; then
    echo "$NGX_OBJS/ngx_http_px_module.so: $px_library" >> $NGX_MAKEFILE
fi
