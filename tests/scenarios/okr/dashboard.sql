-- The dashboard: ten aggregates over the current tenant, and not a word about tenants.
SELECT (SELECT count(*) FROM profiles) AS people,
       (SELECT count(*) FROM objectives) AS objectives,
       (SELECT count(*) FROM objectives WHERE status = 'completed') AS completed,
       (SELECT count(*) FROM objectives WHERE status = 'at_risk') AS at_risk,
       (SELECT round(avg(progress_percentage), 1) FROM objectives) AS progress,
       (SELECT count(*) FROM initiatives) AS initiatives,
       (SELECT sum(budget) FROM initiatives) AS budget,
       (SELECT count(*) FROM activities) AS activities,
       (SELECT count(*) FROM activities WHERE due_date < now() AND status <> 'completed') AS overdue,
       (SELECT count(*) FROM key_results WHERE current_value >= target_value) AS key_results_reached
