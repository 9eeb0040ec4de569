//! Configuration text of the module's own, fed to nginx's parser as if it stood in a file.

use std::{mem, ptr};

use nginx_sys::{
    ngx_array_create, ngx_buf_t, ngx_conf_file_t, ngx_conf_parse, ngx_conf_t, ngx_str_t,
};

use crate::ffi;

/// What messages name as the file.
const FILE_NAME: &str = "px built-in";

/// Lets nginx read `text` as the rest of the block that `cf` is in. Everything a user could have
/// put into the text must have been checked to mean nothing to the parser.
///
/// The text must end with the brace that closes the block: that is where the parser stops.
///
/// # Safety
///
/// `cf` must be a live configuration state whose `ctx` and `cmd_type` are those of the block.
pub(crate) unsafe fn parse(cf: *mut ngx_conf_t, text: &str) -> Result<(), ()> {
    debug_assert!(text.ends_with('}'));
    // SAFETY: `cf` is live.
    let pool = unsafe { (*cf).pool };
    // nginx keeps pointers into what it parses; the text must live as long as the configuration.
    // SAFETY: the configuration pool is live.
    let text = unsafe { ffi::copy_to_pool(pool, text.as_bytes()) }.ok_or(())?;
    // SAFETY: zero is valid for these C structs.
    let mut buffer: ngx_buf_t = unsafe { mem::zeroed() };
    buffer.start = text.data;
    buffer.pos = text.data;
    // SAFETY: one past the end of the text.
    buffer.last = unsafe { text.data.add(text.len) };
    buffer.end = buffer.last;
    // SAFETY: as above.
    let mut file: ngx_conf_file_t = unsafe { mem::zeroed() };
    file.buffer = &raw mut buffer;
    file.line = 1;
    file.file.name = ffi::str_of(FILE_NAME);
    // SAFETY: `cf` is live.
    file.file.log = unsafe { (*cf).log };
    // Any descriptor but the invalid one: with that, nginx would refuse blocks, as in `-g`. Offset
    // and size are equal, so nothing is ever read from it.
    file.file.fd = 0;

    // SAFETY: the temporary pool lives while configuration is read.
    let temp_pool = unsafe { (*cf).temp_pool };
    // SAFETY: as above; ten words, as nginx itself starts with.
    let words = unsafe { ngx_array_create(temp_pool, 10, size_of::<ngx_str_t>()) };
    if words.is_null() {
        return Err(());
    }
    // SAFETY: `cf` is live, and nothing else reads it while we replace two of its fields.
    let state = unsafe { &mut *cf };
    let outer_file = mem::replace(&mut state.conf_file, &raw mut file);
    let outer_words = mem::replace(&mut state.args, words);
    // SAFETY: `cf` is complete; a null file name means "go on in conf_file".
    let rc = unsafe { ngx_conf_parse(cf, ptr::null_mut()) };
    // SAFETY: as above.
    let state = unsafe { &mut *cf };
    state.conf_file = outer_file;
    state.args = outer_words;
    if rc.is_null() { Ok(()) } else { Err(()) }
}

/// True while `cf` reads text given to [`parse`].
///
/// # Safety
///
/// `cf` must be the configuration state nginx passed to the calling callback.
pub(crate) unsafe fn is_reading(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: setters are called while a file, or what looks like one, is read.
    let file = unsafe { (*cf).conf_file };
    // SAFETY: as above.
    ptr::eq(unsafe { (*file).file.name.data }, FILE_NAME.as_ptr())
}
