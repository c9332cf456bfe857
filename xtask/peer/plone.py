"""A Plone site on a ZEO server: two instances, one with a shared blob folder and one without.

    plone.py SERVER FOLDER

SERVER is the command line of the server, with {conf} in it: a zeo.conf as plone.recipe.zeoserver writes it. It is run as a process of its own. Each instance is a
process as an operator runs it (runwsgi), and is spoken to by HTTP alone; undo and pack go by ZEO's client.
Prints a line for each thing that was seen to work.
"""
import base64
import concurrent.futures
import hashlib
import json
import pathlib
import random
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib

BIN = pathlib.Path(sys.executable).parent
PATIENCE = 240

SITE = """<configure xmlns="http://namespaces.zope.org/zope" xmlns:five="http://namespaces.zope.org/five"
           xmlns:meta="http://namespaces.zope.org/meta">
  <include package="Products.Five"/>
  <meta:redefinePermission from="zope2.Public" to="zope.Public"/>
  <five:loadProducts file="meta.zcml"/>
  <five:loadProducts/>
  <five:loadProductsOverrides/>
  <securityPolicy component="AccessControl.security.SecurityPolicy"/>
</configure>
"""

ZOPE = """%define INSTANCE {instance}
instancehome $INSTANCE
default-zpublisher-encoding utf-8
<zodb_db main>
  mount-point /
  cache-size 5000
  <zeoclient>
    server 127.0.0.1:{zeo}
    storage 1
    name zeostorage
    var {instance}/var
    cache-size 64MB
    blob-dir {blobs}
    shared-blob-dir {shared}
  </zeoclient>
</zodb_db>
"""

INI = """[app:zope]
use = egg:Zope#main
zope_conf = {instance}/etc/zope.conf
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 4
max_request_body_size = 1073741824
[pipeline:main]
pipeline = egg:Zope#httpexceptions zope
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(asctime)s %(levelname)s %(name)s %(message)s
"""

ZEO = """%define INSTANCE {folder}
<zeo>
  address 127.0.0.1:{zeo}
  read-only false
  invalidation-queue-size 100
  pid-filename $INSTANCE/zeo.pid
</zeo>
<filestorage 1>
  path $INSTANCE/Data.fs
  blob-dir $INSTANCE/blobs
</filestorage>
<eventlog>
  level info
  <logfile>
    path $INSTANCE/zeo.log
    format %(asctime)s %(message)s
  </logfile>
</eventlog>
<runner>
  program $INSTANCE/bin/runzeo
  socket-name $INSTANCE/zeo.zdsock
  daemon true
  forever false
  backoff-limit 10
  exit-codes 0, 2
  directory $INSTANCE
  default-to-interactive true
</runner>
"""

MAKE = """
from AccessControl.SecurityManagement import newSecurityManager
from Products.CMFPlone.factory import addPloneSite
import transaction
newSecurityManager(None, app.acl_users.getUserById('admin').__of__(app.acl_users))
addPloneSite(app, 'Plone', title='A site', setup_content=False, default_language='en',
             extension_ids=['plone.app.contenttypes:default', 'plonetheme.barceloneta:default', 'plone.restapi:default'])
transaction.commit()
"""

LOG = """
import json
found = app._p_jar.db().undoInfo(0, -50)
print('UNDO' + json.dumps([(u['id'] if isinstance(u['id'], str) else u['id'].decode(), str(u['description'])) for u in found]))
"""

UNDO = """
import transaction
db = app._p_jar.db()
db.undo({id!r}.encode(), transaction.get())
transaction.commit()
"""

PACK = """
db = app._p_jar.db()
db.pack(days=0)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def png(side, seed):
    """A picture of random pixels."""
    dice = random.Random(seed)
    rows = b''.join(b'\0' + dice.randbytes(3 * side) for _ in range(side))

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def wait_for(port, process, name):
    started = time.time()
    while time.time() - started < PATIENCE:
        if process.poll() is not None:
            raise SystemExit(f'{name} ended with {process.returncode}')
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f'{name} does not answer')


class Instance:
    def __init__(self, folder, name, zeo, blobs, shared):
        self.name, self.home, self.port = name, folder / name, free_port()
        (self.home / 'etc').mkdir(parents=True)
        (self.home / 'var').mkdir()
        (self.home / 'etc/site.zcml').write_text(SITE)
        fill = dict(instance=self.home, zeo=zeo, blobs=blobs, shared='on' if shared else 'off', port=self.port)
        (self.home / 'etc/zope.conf').write_text(ZOPE.format(**fill))
        (self.home / 'etc/zope.ini').write_text(INI.format(**fill))
        # Zope makes the user of this file when the database has none. The password is in the form {SHA}.
        digest = base64.b64encode(hashlib.sha1(b'secret').digest()).decode()
        (self.home / 'inituser').write_text('admin:{SHA}' + digest)
        self.process = None

    def script(self, text):
        path = self.home / 'script.py'
        path.write_text(text)
        command = [BIN / 'zconsole', 'run', self.home / 'etc/zope.conf', path]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if ran.returncode:
            raise SystemExit(f'{self.name}: {ran.stdout}{ran.stderr}')
        return ran.stdout

    def start(self):
        log = open(self.home / 'var/log', 'a')
        self.process = subprocess.Popen([BIN / 'runwsgi', self.home / 'etc/zope.ini'], stdout=log, stderr=log)
        wait_for(self.port, self.process, self.name)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def call(self, method, path, body=None, accept='application/json'):
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}/{path}', method=method)
        request.add_header('Authorization', 'Basic ' + base64.b64encode(b'admin:secret').decode())
        request.add_header('Accept', accept)
        data = None
        if body is not None:
            request.add_header('Content-Type', 'application/json')
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f'{self.name}: {method} {path}: {error} {error.read()[:2000]!r}') from None

    def add(self, kind, name, field, data, content_type):
        value = {'data': base64.b64encode(data).decode(), 'encoding': 'base64', 'filename': name, 'content-type': content_type}
        return json.loads(self.call('POST', 'Plone', {'@type': kind, 'id': name, 'title': name, field: value}))

    def image(self, name):
        return self.call('GET', f'Plone/{name}/@@images/image', accept='*/*')

    def download(self, name):
        return self.call('GET', f'Plone/{name}/@@download/file', accept='*/*')


def eventually(look, wanted, what):
    """Another instance sees a commit when its invalidation has arrived."""
    for _ in range(100):
        if look() == wanted:
            return
        time.sleep(0.1)
    raise SystemExit(f'{what}: not what was stored')


def main(server, folder):
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    blobs, conf, zeo = folder / 'blobs', folder / 'zeo.conf', free_port()
    conf.write_text(ZEO.format(folder=folder, zeo=zeo))
    command = [part.format(conf=conf) for part in shlex.split(server)]
    log = open(folder / 'server.log', 'w')
    serving = subprocess.Popen(command, stdout=log, stderr=log)
    one = two = None
    try:
        wait_for(zeo, serving, 'the server')
        one = Instance(folder, 'one', zeo, blobs, True)
        two = Instance(folder, 'two', zeo, folder / 'two-blobs', False)
        one.script(MAKE)
        print('a site was made')
        one.start()
        two.start()
        walk(one, two)
        restart_all(one, two)
    finally:
        for instance in (one, two):
            if instance:
                instance.stop()
        serving.send_signal(signal.SIGTERM)
        try:
            serving.wait(60)
        except subprocess.TimeoutExpired:
            serving.kill()
            raise SystemExit('the server does not end')


def walk(one, two):
    picture = png(64, 1)
    two.add('Image', 'picture.png', 'image', picture, 'image/png')
    for instance in (two, one):
        eventually(lambda: instance.image('picture.png'), picture, f'a picture at {instance.name}')
    one.call('POST', 'Plone', {'@type': 'Document', 'id': 'page', 'title': 'A page with a picture'})
    eventually(lambda: b'A page with a picture' in two.call('GET', 'Plone/page', accept='text/html'), True, 'the page')
    scale = two.call('GET', 'Plone/picture.png/@@images/image/mini', accept='*/*')
    assert scale, 'a scale has bytes'
    print('a page, a picture and its scale are seen at both instances')

    # Several large files at once, at both.
    files = {f'file-{n}.bin': random.Random(n).randbytes(6_000_000 + n) for n in range(6)}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        adding = [pool.submit((one, two)[n % 2].add, 'File', name, 'file', bytes_, 'application/octet-stream')
                  for n, (name, bytes_) in enumerate(files.items())]
        for added in adding:
            added.result()
    for name, bytes_ in files.items():
        for instance in (one, two):
            eventually(lambda: instance.download(name), bytes_, f'{name} at {instance.name}')
    print(f'{len(files)} files of 6 MB, uploaded at once, are whole at both instances')

    other = png(64, 2)
    value = {'data': base64.b64encode(other).decode(), 'encoding': 'base64', 'filename': 'picture.png',
             'content-type': 'image/png'}
    one.call('PATCH', 'Plone/picture.png', {'image': value})
    for instance in (one, two):
        eventually(lambda: instance.image('picture.png'), other, f'the changed picture at {instance.name}')
    log = json.loads(two.script(LOG).split('UNDO', 1)[1].splitlines()[0])
    change = next(number for number, what in log if 'picture.png' in what)
    two.script(UNDO.format(id=change))
    for instance in (one, two):
        eventually(lambda: instance.image('picture.png'), picture, f'the picture after the undo at {instance.name}')
    print('a change of a picture is undone, and both instances have the old one')

    one.call('DELETE', 'Plone/file-0.bin')
    one.script(PACK)
    for name, bytes_ in list(files.items())[1:]:
        eventually(lambda: two.download(name), bytes_, f'{name} after the pack')
    eventually(lambda: one.image('picture.png'), picture, 'the picture after the pack')
    print('packed, and what is left is whole')


def restart_all(one, two):
    for instance in (one, two):
        instance.stop()
    two.start()
    assert two.image('picture.png') == png(64, 1)
    print('a restarted instance has everything')


if __name__ == '__main__':
    main(*sys.argv[1:])
