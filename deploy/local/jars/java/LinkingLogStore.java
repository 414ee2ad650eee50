/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
 * compliance with the License. You may obtain a copy of the License in the LICENSE file of this project.
 * Software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
 * CONDITIONS OF ANY KIND, either express or implied.
 */
package tillstream.fs;

import io.delta.storage.LocalLogStore;
import java.io.BufferedWriter;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Objects;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Path;

/**
 * {@code spark.delta.logStore.file.impl}: Delta's log on a local disk.
 *
 * <p>It differs from {@link LocalLogStore} in three points. A listing reads the attributes of only the files it
 * returns, so that a commit costs the same with ten thousand old log files beside it. A commit appears by a
 * hard link, which fails when the version exists: also against a writer in another process, where
 * {@code LocalLogStore} checks first and renames then, and the later one silently wins. And
 * {@code _last_checkpoint} is replaced by a rename, so that no reader sees half of it.
 */
public class LinkingLogStore extends LocalLogStore {
    public LinkingLogStore(Configuration configuration) {
        super(configuration);
    }

    @Override
    public Iterator<FileStatus> listFrom(Path path, Configuration configuration) throws IOException {
        Path folder = path.getParent();
        String from = path.getName();
        String[] names = local(folder).list((parent, name) -> name.compareTo(from) >= 0);
        if (names == null) {
            throw new FileNotFoundException("No such file or directory: " + folder);
        }
        Arrays.sort(names);
        return Arrays.stream(names)
                .map(name -> status(folder, name, configuration))
                .filter(Objects::nonNull)
                .iterator();
    }

    @Override
    public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration configuration)
            throws IOException {
        java.nio.file.Path target = local(path).toPath();
        java.nio.file.Path temporary =
                target.resolveSibling("." + target.getFileName() + "." + UUID.randomUUID() + ".tmp");
        try {
            try (BufferedWriter writer = Files.newBufferedWriter(temporary, StandardCharsets.UTF_8)) {
                while (actions.hasNext()) {
                    writer.write(actions.next());
                    writer.write('\n');
                }
            }
            if (overwrite) {
                Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            } else {
                Files.createLink(target, temporary);
            }
        } catch (FileAlreadyExistsException exists) {
            // Delta looks for this very type to know that another writer took the version.
            throw new FileAlreadyExistsException(path.toString());
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private static File local(Path path) {
        return Paths.get(path.toUri().getPath()).toFile();
    }

    /** Null where the file was deleted, by a clean-up of the log, between the listing and now. */
    private static FileStatus status(Path folder, String name, Configuration configuration) {
        Path path = new Path(folder, name);
        try {
            return path.getFileSystem(configuration).getFileStatus(path);
        } catch (FileNotFoundException gone) {
            return null;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
