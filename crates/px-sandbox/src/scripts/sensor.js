// px-sandbox: stands in for HUMAN's sensor. It gives the browser a visitor id and tells the
// collector that it ran, nothing else.
(function () {
  'use strict';

  var own = document.currentScript && document.currentScript.src;
  if (!/(^|;\s*)_pxvid=/.test(document.cookie) && window.crypto && crypto.randomUUID) {
    document.cookie = '_pxvid=' + crypto.randomUUID() + '; path=/; max-age=31536000; SameSite=Lax';
  }
  var host = window._pxHostUrl;
  if (!host && own && /\/init\.js/.test(own)) host = own.replace(/\/init\.js.*$/, '/xhr');
  if (!host && own) host = new URL(own).origin;
  if (host && window.fetch) {
    fetch(host.replace(/\/$/, '') + '/api/v2/collector', {
      method: 'POST',
      credentials: 'omit',
      headers: { 'Content-Type': 'text/plain' },
      body: JSON.stringify({ sandbox: true, page: location.href })
    }).catch(function () {});
  }
})();
