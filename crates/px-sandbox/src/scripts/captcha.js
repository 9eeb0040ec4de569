// px-sandbox: a challenge anybody can pass. It stands in for HUMAN's captcha script, so that block
// pages can be tried in a browser: press the button, get a risk cookie, see the page.
(function () {
  'use strict';

  var own = document.currentScript && document.currentScript.src;
  var forHypeSale = /\/checkpoint\.js/.test(own || '');
  var win = forHypeSale ? outermost() : window;

  // A hype sale page lives in a frame of the shop's page. The cookie and the reload are for that
  // page; where the shop itself is in a frame of somebody else, that one is out of reach.
  function outermost() {
    var found = window;
    while (found.parent !== found) {
      try {
        if (!found.parent.document) break;
      } catch (error) {
        break;
      }
      found = found.parent;
    }
    return found;
  }

  function make(tag, text, style) {
    var element = document.createElement(tag);
    if (text) element.textContent = text;
    if (style) element.style.cssText = style;
    return element;
  }

  function render() {
    var box = make('div', '', 'max-width:26rem;margin:12vh auto;padding:2rem;border:1px solid #ccd;' +
      'border-radius:.75rem;font:16px/1.5 system-ui,sans-serif;text-align:center;color:#223;background:#fff');
    box.id = 'px-captcha-sandbox';
    box.setAttribute('role', 'region');
    box.setAttribute('aria-label', 'Human verification');
    if (window._pxCustomLogo) {
      var logo = make('img', '', 'max-height:150px;width:auto;margin:0 auto 1rem;display:block');
      logo.src = window._pxCustomLogo;
      logo.alt = '';
      box.appendChild(logo);
    }
    box.appendChild(make('h1', 'Are you human?', 'font-size:1.5rem;margin:0 0 .5rem'));
    box.appendChild(make('p', 'This is the demo challenge of px-sandbox. Press the button to go on.'));
    var button = make('button', 'I am human', 'font:inherit;padding:.6rem 1.6rem;border:0;' +
      'border-radius:.5rem;background:#2450c8;color:#fff;cursor:pointer');
    button.type = 'button';
    var status = make('p', '', 'min-height:1.5em');
    status.setAttribute('role', 'status');
    button.addEventListener('click', function () {
      button.disabled = true;
      status.textContent = 'One moment …';
      solve(places(), function (problem) {
        button.disabled = false;
        status.textContent = problem;
      });
    });
    box.appendChild(button);
    box.appendChild(status);
    box.appendChild(make('p', 'Reference ID ' + (window._pxUuid || 'none'), 'font-size:.8rem;color:#667'));
    document.body.appendChild(box);
    button.focus();
  }

  // Where the cookie comes from: the collector the page names (hype sale pages name none), else the
  // host of this script.
  function places() {
    var found = [];
    if (window._pxHostUrl) found.push(window._pxHostUrl.replace(/\/$/, ''));
    if (own) found.push(new URL(own).origin);
    return found;
  }

  function solve(left, failed) {
    if (!left.length) {
      failed('The sandbox cannot be reached. Is it running?');
      return;
    }
    fetch(left[0] + '/px-sandbox/solve', {
      method: 'POST',
      credentials: 'omit',
      headers: { 'Content-Type': 'text/plain' },
      body: JSON.stringify({
        appId: window._pxAppId,
        vid: window._pxVid || '',
        uuid: window._pxUuid || '',
        cpa: forHypeSale
      })
    }).then(function (answer) {
      if (!answer.ok) throw new Error('status ' + answer.status);
      return answer.json();
    }).then(function (solved) {
      solved.cookies.forEach(function (cookie) { win.document.cookie = cookie; });
      if (window._pxMobile) win.location.href = '/px/captcha_close?status=0';
      else win.location.reload();
    }).catch(function () {
      solve(left.slice(1), failed);
    });
  }

  if (document.body) render();
  else document.addEventListener('DOMContentLoaded', render);
})();
